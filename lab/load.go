package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/lab/access"
	"github.com/ovenbird-dev/ovenbird/lab/progress"
	"github.com/ovenbird-dev/ovenbird/lab/registry"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/packer/node/containerimage"
)

// loadLimit bounds the push of an archive.
const loadLimit = 15 * time.Minute

// loaded is an image that load-image pushed.
type loaded struct {
	Name   string `json:"name"` // as a pod names it
	Digest string `json:"digest"`
}

func loadImageCommand(p *place) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load-image FILE [NAME]",
		Short: "Put container images into the lab's registry",
		Long: `Put the container images of an archive, as docker save or skopeo, buildx and ctr write it,
into the registry on the lab's network. Each keeps its repository and tag, under
` + vpc.RegistryName + `; or is named NAME, if it is the only one.`,
		Example: `  docker save -o app.tar example.com/team/app:1.0 && ovenbird-lab load-image app.tar
  ovenbird-lab load-image app.tar team/app:2.0`,
		Args: cobra.RangeArgs(1, 2),
	}
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, lab, err := p.running()
		if err != nil {
			return err
		}
		transport, err := access.Transport(dir, lab)
		if err != nil {
			return err
		}
		images, err := containerimage.ReadArchive(args[0])
		if err != nil {
			return fmt.Errorf("load-image: %w", err)
		}
		if len(args) > 1 {
			if len(images) > 1 {
				return cli.Usage(fmt.Errorf("load-image: %s holds %d images, and %s can name one only", args[0], len(images), args[1]))
			}
			images[0].Names = args[1:]
		}
		var list []loaded
		err = progress.New(os.Stderr).Do("loading "+args[0], func() (err error) {
			list, err = load(cmd.Context(), registry.Pusher{Client: &http.Client{Transport: transport}, URL: "https://" + vpc.RegistryName}, images)
			return err
		})
		if err != nil {
			return fmt.Errorf("load-image: %w", err)
		}
		return output.Print(cmd.OutOrStdout(), list, func(w io.Writer) error {
			for _, l := range list {
				if _, err := fmt.Fprintln(w, l.Name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return cmd
}

// load pushes images under all their names.
func load(ctx context.Context, to registry.Pusher, images []containerimage.Archived) ([]loaded, error) {
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	var list []loaded
	for _, image := range images {
		digest, err := image.Image.Digest()
		if err != nil {
			return nil, fmt.Errorf("read the image: %w", err)
		}
		for _, reference := range image.Names {
			tag, err := inLab(reference)
			if err != nil {
				return nil, err
			}
			if err := to.Push(ctx, tag.RepositoryStr(), tag.TagStr(), image.Image); err != nil {
				return nil, fmt.Errorf("push %s: %w", tag.Name(), err)
			}
			list = append(list, loaded{Name: tag.Name(), Digest: digest.String()})
		}
	}
	return list, nil
}

// inLab is the name of an image in the lab's registry: its own with another host.
func inLab(reference string) (name.Tag, error) {
	reference = strings.TrimPrefix(reference, vpc.RegistryName+"/")
	if strings.Contains(reference, "@") {
		return name.Tag{}, errors.New("name an image by a tag, not by a digest: " + reference)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		return tag, fmt.Errorf("the name %s: %w", reference, err)
	}
	repository := tag.RepositoryStr()
	if tag.RegistryStr() == name.DefaultRegistry && !strings.Contains(reference, name.DefaultRegistry) && !strings.HasPrefix(reference, "docker.io/") {
		repository = strings.TrimPrefix(repository, "library/") // which the name did not say
	}
	return name.NewTag(vpc.RegistryName + "/" + repository + ":" + tag.TagStr())
}
