package ami

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/packer/ami/journal"
)

// Leftover is something at AWS that a build has made and not finished.
type Leftover struct {
	Region  string `json:"region"`
	Kind    string `json:"kind"` // snapshot, image or parameter
	ID      string `json:"id,omitempty"`
	Name    string `json:"name,omitempty"`
	Build   string `json:"build"`
	Why     string `json:"why"`
	Removed bool   `json:"removed"`
}

// sweep is one run of the command.
type sweep struct {
	store     store
	cloud     func(profile string) *cloud
	profile   string
	regions   []string // empty: that of the AWS configuration, and those of all journals
	olderThan time.Duration
	dryRun    bool
	log       func(format string, args ...any)

	all      []Leftover
	failures []error
	skip     map[string]bool // builds that are under way, or dealt with by their journals
}

// SweepCommand removes what builds have left at AWS.
func SweepCommand() *cobra.Command { return sweepCommand(newCloud) }

func sweepCommand(cloud func(profile string) *cloud) *cobra.Command {
	s := sweep{cloud: cloud, skip: map[string]bool{}}
	var dir string
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Remove what interrupted builds of AMIs have left at AWS",
		Long: `Removes snapshots and images that a build with ovenbird-ami has made and not finished, and
gives SSM parameters back the values they had. A build that fails or is cancelled cleans up
by itself; this is for builds that were killed and are not wanted any more, and for those
that could not reach AWS to clean up.

What is left over is known from the journals on this machine, whatever the builds' age, and
from the tag ovenbird.dev/build without ovenbird.dev/published, once it is older than
--older-than: it may be of a build that is under way on another machine. A build that is
under way on this machine is left alone.`,
		Example: "  ovenbird-image sweep --dry-run\n  ovenbird-image sweep --region eu-central-1 --region us-east-1 --older-than 2h",
		Args:    cobra.NoArgs,
	}
	output := cli.AddOutputFlag(cmd)
	cmd.Flags().StringArrayVar(&s.regions, "region", nil, "a region to look into; may be repeated (default: the AWS configuration's, and those of the journals)")
	cmd.Flags().StringVar(&s.profile, "profile", "", "the profile of the AWS configuration to use")
	cmd.Flags().StringVar(&dir, "journal-directory", "", "the post-processor's journal_directory (default: as there)")
	cmd.Flags().DurationVar(&s.olderThan, "older-than", 24*time.Hour, "how old something without a journal must be")
	cmd.Flags().BoolVar(&s.dryRun, "dry-run", false, "only list")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, region := range s.regions {
			if !regionName.MatchString(region) {
				return cli.Usage(fmt.Errorf("--region: %q is not the name of a region", region))
			}
		}
		path, err := stateDirectory(dir)
		if err != nil {
			return fmt.Errorf("--journal-directory: %w", err)
		}
		s.store = store(path)
		s.log = func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) }
		failed := s.run(cmd.Context())
		return errors.Join(output.Print(cmd.OutOrStdout(), s.all, s.table), failed)
	}
	return cmd
}

func (s *sweep) table(w io.Writer) error {
	if len(s.all) == 0 {
		_, err := fmt.Fprintln(w, "Nothing is left over.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tKIND\tID\tBUILD\tWHY\tREMOVED")
	for _, l := range s.all {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%t\n", l.Region, l.Kind, strings.TrimSpace(l.Name+" "+l.ID), l.Build, l.Why, l.Removed)
	}
	return table.Flush()
}

func (s *sweep) run(ctx context.Context) error {
	s.all = []Leftover{}
	paths, err := s.store.journals()
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := s.journal(ctx, path); err != nil {
			s.failures = append(s.failures, fmt.Errorf("%s: %w", filepath.Base(path), err))
		}
	}
	regions := s.regions
	if len(regions) == 0 {
		regions = []string{""}
	}
	for _, name := range regions {
		r, err := s.cloud(s.profile).region(ctx, name)
		if err == nil {
			err = s.tagged(ctx, r)
		}
		if err != nil {
			s.failures = append(s.failures, err)
		}
	}
	return errors.Join(s.failures...)
}

// journal removes what an unfinished build has recorded, and then its journal.
func (s *sweep) journal(ctx context.Context, path string) error {
	j, err := journal.Open(path)
	if errors.Is(err, journal.ErrBusy) {
		s.log("%s: its build is under way", filepath.Base(path))
		// Its things carry the tag too.
		if build, err := journal.Peek(path); err == nil {
			s.skip[build.ID] = true
		}
		return nil
	}
	if err != nil {
		return err
	}
	build := j.Build()
	if len(s.regions) > 0 && !slices.Contains(s.regions, build.Region) {
		return j.Close()
	}
	s.skip[build.ID] = true
	profile := s.profile
	if profile == "" {
		profile = build.Profile
	}
	cloud := s.cloud(profile)
	if err := s.owns(ctx, cloud, build); err != nil {
		return errors.Join(err, j.Close())
	}
	resources := j.Resources()
	removed := map[string]bool{}
	if !s.dryRun {
		err = cloud.undo(ctx, build.ID, resources, func(r journal.Resource) error {
			removed[r.Kind+r.Region+r.Name] = true
			return j.Gone(r)
		})
	}
	for _, r := range resources {
		s.all = append(s.all, Leftover{Region: r.Region, Kind: r.Kind, ID: r.ID, Name: r.Name, Build: build.ID,
			Why: "in a journal of " + build.Begun.Format(time.DateTime), Removed: removed[r.Kind+r.Region+r.Name]})
	}
	if err != nil || s.dryRun {
		return errors.Join(err, j.Close())
	}
	return errors.Join(j.Remove(), s.store.forget(build.Map))
}

// owns fails unless the credentials are of the account that the build is of: to another
// account all that it has made would be gone already.
func (s *sweep) owns(ctx context.Context, c *cloud, build journal.Build) error {
	if build.ID == "" {
		return nil // killed before it made anything
	}
	r, err := c.region(ctx, build.Region)
	if err != nil {
		return err
	}
	account, err := r.account(ctx)
	if err != nil || account == build.Account {
		return err
	}
	return fmt.Errorf("its build is of account %s, the credentials are of %s; try --profile", build.Account, account)
}

// tagged removes what carries a build's tag and was never finished.
func (s *sweep) tagged(ctx context.Context, r *region) error {
	images, err := r.owned(ctx, filter("tag-key", tagBuild))
	if err != nil {
		return err
	}
	var found []Leftover
	for _, image := range images {
		created, _ := time.Parse(time.RFC3339, aws.ToString(image.CreationDate))
		if s.leftOver(image.Tags, created) {
			found = append(found, Leftover{Region: r.name, Kind: journal.Image, ID: aws.ToString(image.ImageId), Name: aws.ToString(image.Name),
				Build: tagOf(image.Tags, tagBuild), Why: "unfinished since " + created.Format(time.DateTime)})
		}
	}
	snapshots, err := r.snapshots(ctx, filter("tag-key", tagBuild))
	if err != nil {
		return err
	}
	for _, snapshot := range snapshots {
		id, started := aws.ToString(snapshot.SnapshotId), aws.ToTime(snapshot.StartTime)
		ofImage := slices.ContainsFunc(images, func(image ec2types.Image) bool { return slices.Contains(snapshotsOf(image), id) })
		// An image takes its snapshots with it.
		if s.leftOver(snapshot.Tags, started) && !ofImage {
			found = append(found, Leftover{Region: r.name, Kind: journal.Snapshot, ID: id,
				Build: tagOf(snapshot.Tags, tagBuild), Why: "unfinished since " + started.UTC().Format(time.DateTime)})
		}
	}
	for _, l := range found {
		if !s.dryRun {
			if err := (removal{r, journal.Resource{Kind: l.Kind, Region: l.Region, ID: l.ID}, l.Build, map[string]bool{}}).remove(ctx); err != nil {
				s.failures = append(s.failures, err)
			} else {
				l.Removed = true
			}
		}
		s.all = append(s.all, l)
	}
	return nil
}

// leftOver tells whether what was made then, and carries these tags, is nobody's any more.
// What does not say when it was made may be new.
func (s *sweep) leftOver(tags []ec2types.Tag, made time.Time) bool {
	return tagOf(tags, tagPublished) == "" && !s.skip[tagOf(tags, tagBuild)] && !made.IsZero() && time.Since(made) > s.olderThan
}
