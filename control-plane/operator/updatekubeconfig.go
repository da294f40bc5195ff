package operator

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/ovenbird-dev/ovenbird/internal/cli"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

type updateFlags struct {
	name, region, file, alias, roleARN, proxyURL string
	dryRun                                       bool
}

// UpdateKubeconfigCommand is `ovenbird update-kubeconfig`.
func UpdateKubeconfigCommand() *cobra.Command {
	var flags updateFlags
	cmd := &cobra.Command{
		Use:   "update-kubeconfig --name NAME",
		Short: "Let kubectl reach a cluster with your AWS identity",
		Long: `Let kubectl reach a cluster with your AWS identity.

It does what ` + "`aws eks update-kubeconfig`" + ` does, with no AWS CLI: a context is added to the
kubeconfig, or renewed, and made the current one; kubectl gets its tokens from ` + "`ovenbird\nget-token`" + `. What else is in the file stays. What you may do in the cluster is up to its
access entries.`,
		Example: "  ovenbird update-kubeconfig --name demo\n  ovenbird update-kubeconfig --name demo --alias demo --kubeconfig .ovenbird/kubeconfig",
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&flags.name, "name", "", "name of the cluster")
	f.StringVar(&flags.region, "region", "", "AWS region of the cluster (default: the environment's)")
	f.StringVar(&flags.file, "kubeconfig", "", "file to write or to add to (default: of those in KUBECONFIG, the one that has the cluster, else the first; else ~/.kube/config)")
	f.StringVar(&flags.alias, "alias", "", "name of the context (default: the cluster's ARN)")
	f.StringVar(&flags.roleARN, "role-arn", "", "IAM role to assume for tokens")
	f.StringVar(&flags.proxyURL, "proxy-url", "", "proxy on the way to the API server (default: as HTTPS_PROXY and NO_PROXY say)")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print the whole kubeconfig instead of writing it")
	_ = cmd.MarkFlagRequired("name") // fails only for a flag that is not there
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		updated, err := updateKubeconfig(cmd.Context(), flags, cmd.OutOrStdout())
		if err != nil || flags.dryRun {
			return err
		}
		return output.Print(cmd.OutOrStdout(), updated, func(w io.Writer) error {
			done := "Added new context %s to %s\n"
			if updated.Renewed {
				done = "Updated context %s in %s\n"
			}
			_, err := fmt.Fprintf(w, done, updated.Context, updated.File)
			return err
		})
	}
	return authenticated(cmd)
}

// kubeconfigUpdated is what the command prints.
type kubeconfigUpdated struct {
	File    string `json:"file"`
	Context string `json:"context"`
	Renewed bool   `json:"renewed"` // the cluster was there already
}

func updateKubeconfig(ctx context.Context, flags updateFlags, stdout io.Writer) (kubeconfigUpdated, error) {
	loaded, client, err := connect(ctx, flags.region)
	if err != nil {
		return kubeconfigUpdated{}, err
	}
	c, err := describe(ctx, client, flags.name)
	if err != nil {
		return kubeconfigUpdated{}, apiError("describe cluster "+flags.name, err)
	}
	login, err := newLogin(c, flags)
	if err != nil {
		return kubeconfigUpdated{}, err
	}
	if named := sts.NewFromConfig(loaded).Options().BaseEndpoint; named != nil {
		login.sign("AWS_ENDPOINT_URL_STS", *named)
	}
	file, config, err := chooseKubeconfig(flags.file, os.Getenv(clientcmd.RecommendedConfigPathEnvVar), login.arn)
	if err != nil {
		return kubeconfigUpdated{}, err
	}
	updated := kubeconfigUpdated{File: file, Context: login.context, Renewed: config.Clusters[login.arn] != nil}
	login.addTo(config)
	if flags.dryRun {
		return updated, printKubeconfig(stdout, config)
	}
	return updated, saveKubeconfig(file, config)
}

// chooseKubeconfig picks the file as the AWS CLI does, and reads what is in it.
func chooseKubeconfig(given, list, cluster string) (file string, config *api.Config, err error) {
	files := slices.DeleteFunc(filepath.SplitList(list), func(file string) bool { return strings.TrimSpace(file) == "" })
	switch {
	case given != "":
		files = []string{given}
	case len(files) == 0:
		files = []string{clientcmd.RecommendedHomeFile}
	}
	for _, file := range files {
		if config, err := readKubeconfig(file); err == nil && config.Clusters[cluster] != nil {
			return file, config, nil
		}
	}
	config, err = readKubeconfig(files[0])
	return files[0], config, err
}

// login is how kubectl gets into a cluster.
type login struct {
	arn, context string
	cluster      api.Cluster
	exec         api.ExecConfig
}

func newLogin(c *types.Cluster, flags updateFlags) (login, error) {
	if c.Status != types.ClusterStatusActive && c.Status != types.ClusterStatusUpdating {
		return login{}, fmt.Errorf("cluster %s is %s: wait with `ovenbird cluster wait %s`", flags.name, state(c), flags.name)
	}
	parsed, err := arn.Parse(aws.ToString(c.Arn))
	if err != nil || c.Endpoint == nil || c.CertificateAuthority == nil {
		return login{}, fmt.Errorf("cluster %s is described without its ARN, endpoint or authority", flags.name)
	}
	authority, err := base64.StdEncoding.DecodeString(aws.ToString(c.CertificateAuthority.Data))
	if err != nil {
		return login{}, fmt.Errorf("the authority of cluster %s is not base64: %w", flags.name, err)
	}
	proxy, err := proxyFor(*c.Endpoint, flags.proxyURL, environmentProxy)
	if err != nil {
		return login{}, err
	}
	command, err := ownCommand()
	if err != nil {
		return login{}, err
	}
	l := login{
		arn: *c.Arn, context: flags.alias,
		cluster: api.Cluster{Server: *c.Endpoint, CertificateAuthorityData: authority, ProxyURL: proxy},
		exec: api.ExecConfig{
			APIVersion: ststoken.ExecV1beta1, InteractiveMode: api.IfAvailableExecInteractiveMode,
			Command: command, Args: []string{"get-token", "--cluster-name", flags.name, "--region", parsed.Region},
		},
	}
	if l.context == "" {
		l.context = l.arn
	}
	if flags.roleARN != "" {
		l.exec.Args = append(l.exec.Args, "--role-arn", flags.roleARN)
	}
	if profile := os.Getenv("AWS_PROFILE"); profile != "" {
		l.sign("AWS_PROFILE", profile)
	}
	return l, nil
}

// sign sets a variable that says as whom, or for which STS, tokens are signed, so that
// kubectl signs the same in another shell.
func (l *login) sign(name, value string) {
	l.exec.Env = append(l.exec.Env, api.ExecEnvVar{Name: name, Value: value})
}

// addTo names cluster and user as the AWS CLI does, so that either renews what the other
// has written.
func (l *login) addTo(config *api.Config) {
	config.Clusters[l.arn] = &l.cluster
	config.AuthInfos[l.arn] = &api.AuthInfo{Exec: &l.exec}
	context := config.Contexts[l.context]
	if context == nil {
		context = api.NewContext()
		config.Contexts[l.context] = context
	}
	context.Cluster, context.AuthInfo = l.arn, l.arn
	config.CurrentContext = l.context
}

// ownCommand is how a kubeconfig calls this program: by its name where the shell finds it
// so, else by its path.
func ownCommand() (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find out where this program is: %w", err)
	}
	const name = "ovenbird"
	if found, err := exec.LookPath(name); err == nil {
		a, errA := os.Stat(found)
		b, errB := os.Stat(own)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return name, nil
		}
	}
	return own, nil
}
