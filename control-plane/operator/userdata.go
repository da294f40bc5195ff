package operator

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// maxUserData is EC2's own bound, in bytes before base64.
const maxUserData = 16 << 10

type userDataFlags struct {
	environment []string
	trust       []string
	parts       []string
}

// UserDataCommand is `ovenbird user-data`.
func UserDataCommand() *cobra.Command {
	var flags userDataFlags
	cmd := &cobra.Command{
		Use:   "user-data NAME",
		Short: "Print the user-data with which an instance joins a cluster",
		Long: `Print the user-data with which an instance joins a cluster: a NodeConfig that names the
cluster, its endpoint, its authority and its service addresses, so that the instance need
not ask AWS for them. It holds no secret.`,
		Example: "  ovenbird user-data demo > user-data\n" +
			"  ovenbird user-data demo --environment AWS_ENDPOINT_URL=https://aws.lab.internal --trust .ovenbird/lab/ca.crt\n" +
			"  ovenbird user-data demo --part nodeconfig.yaml --part set-up.sh",
		Args: oneCluster,
	}
	// Not a slice: a value may hold commas.
	cmd.Flags().StringArrayVar(&flags.environment, "environment", nil, "environment variable of the node's services and AWS calls, NAME=VALUE")
	cmd.Flags().StringArrayVar(&flags.trust, "trust", nil, "PEM file of an authority to trust for AWS calls")
	cmd.Flags().StringArrayVar(&flags.parts, "part", nil, "file with another NodeConfig, which wins, or with a shell script (#!) that runs once before kubelet starts")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		environment, err := parsePairs("--environment", "NAME=VALUE", flags.environment)
		if err != nil {
			return cli.Usage(err)
		}
		trusted, err := readTrusted(flags.trust)
		if err != nil {
			return err
		}
		own, err := readParts(flags.parts)
		if err != nil {
			return err
		}
		_, client, err := connect(cmd.Context())
		if err != nil {
			return err
		}
		cluster, err := describeJoinable(cmd.Context(), client, args[0])
		if err != nil {
			return err
		}
		userData, err := renderUserData(cluster, environment, trusted, own)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(userData)
		return err
	}
	return authenticated(cmd)
}

// readTrusted returns the certificates in the files, and nothing else that is in them: a
// private key must not end up in user-data.
func readTrusted(files []string) ([][]byte, error) {
	var trusted [][]byte
	for _, file := range files {
		rest, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--trust: %w", err)
		}
		var certificates []byte
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != "CERTIFICATE" {
				return nil, fmt.Errorf("--trust %s: holds a %s: name a file of certificates only", file, strings.ToLower(block.Type))
			}
			certificates = append(certificates, pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})...)
		}
		if len(certificates) == 0 {
			return nil, fmt.Errorf("--trust %s: holds no PEM certificate", file)
		}
		trusted = append(trusted, certificates)
	}
	return trusted, nil
}

// readParts reads the files of the user's own parts.
func readParts(files []string) ([][]byte, error) {
	var parts [][]byte
	for _, file := range files {
		part, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--part: %w", err)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

// renderUserData writes a MIME multipart, and reads it back as the agent will.
func renderUserData(cluster joinable, environment map[string]string, trusted, own [][]byte) ([]byte, error) {
	spec := map[string]any{"cluster": map[string]string{
		"name": cluster.name, "apiServerEndpoint": cluster.endpoint, "certificateAuthority": cluster.authority, "cidr": cluster.serviceCIDR,
	}}
	if len(environment) > 0 {
		spec["instance"] = map[string]any{"environment": map[string]any{nodeconfig.EnvironmentDefault: environment}}
	}
	config, err := yaml.Marshal(map[string]any{"apiVersion": nodeconfig.APIVersion, "kind": nodeconfig.Kind, "spec": spec})
	if err != nil {
		return nil, fmt.Errorf("encode NodeConfig: %w", err)
	}

	var out bytes.Buffer
	parts := multipart.NewWriter(&out)
	// A fixed boundary makes the same cluster's user-data the same bytes every time.
	if err := parts.SetBoundary("ovenbird-user-data"); err != nil {
		return nil, err
	}
	fmt.Fprintf(&out, "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=%q\n\n", parts.Boundary())
	writePart := func(mediaType string, body []byte) error {
		part, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {mediaType}})
		if err != nil {
			return err
		}
		_, err = part.Write(body)
		return err
	}
	err = writePart("application/node.eks.aws", config)
	for _, certificates := range trusted {
		err = errors.Join(err, writePart("application/x-pem-file", certificates))
	}
	for _, part := range own {
		mediaType := "application/node.eks.aws"
		if bytes.HasPrefix(part, []byte("#!")) {
			mediaType = "text/x-shellscript"
		}
		err = errors.Join(err, writePart(mediaType, part))
	}
	if err := errors.Join(err, parts.Close()); err != nil {
		return nil, fmt.Errorf("encode user-data: %w", err)
	}
	if out.Len() > maxUserData {
		return nil, fmt.Errorf("the user-data is %d bytes, more than EC2's %d: trust fewer certificates, or have shorter parts", out.Len(), maxUserData)
	}
	if _, err := nodeconfig.Parse(out.Bytes()); err != nil {
		return nil, fmt.Errorf("no node could read this user-data: %w", err)
	}
	return out.Bytes(), nil
}
