package operator

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/pki"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

// adminLifetime is a working day: no certificate of Kubernetes can be revoked.
const adminLifetime = 8 * time.Hour

type kubeconfigFlags struct {
	stateDir, file, proxyURL string
}

// KubeconfigCommand is `ovenbird kubeconfig`.
func KubeconfigCommand() *cobra.Command {
	var flags kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "kubeconfig NAME",
		Short: "Write a kubeconfig with an administrator certificate of eight hours",
		Long: `Write a kubeconfig with an administrator certificate of eight hours.

The certificate is signed with the cluster's own key, so this works only on the machine
where the service keeps its state. Elsewhere, use ` + "`ovenbird update-kubeconfig`" + `.
Other contexts in the file stay as they are.`,
		Example: "  ovenbird kubeconfig demo\n  ovenbird kubeconfig demo --file - | kubectl --kubeconfig /dev/stdin get nodes",
		Args:    oneCluster,
	}
	f := cmd.Flags()
	f.StringVar(&flags.stateDir, "state-dir", ".ovenbird/control-plane", "the service's state directory")
	f.StringVar(&flags.file, "file", ".ovenbird/kubeconfig", "file to write or to add to; - for standard output")
	f.StringVar(&flags.proxyURL, "proxy-url", "", "proxy on the way to the API server (default: as HTTPS_PROXY and NO_PROXY say)")
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		written, err := writeKubeconfig(cmd.Context(), args[0], flags, cmd.OutOrStdout())
		if err != nil || flags.file == "-" {
			return err
		}
		return output.Print(cmd.OutOrStdout(), written, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "context %s in %s, until %s\n", written.Context, written.File, written.Expires.Local().Format(time.TimeOnly))
			return err
		})
	}
	return authenticated(cmd)
}

// kubeconfigWritten is what the command prints.
type kubeconfigWritten struct {
	File    string    `json:"file"`
	Context string    `json:"context"`
	Expires time.Time `json:"expires"`
}

func writeKubeconfig(ctx context.Context, name string, flags kubeconfigFlags, stdout io.Writer) (kubeconfigWritten, error) {
	_, client, err := connect(ctx)
	if err != nil {
		return kubeconfigWritten{}, err
	}
	cluster, err := describeJoinable(ctx, client, name)
	if err != nil {
		return kubeconfigWritten{}, err
	}
	proxy, err := proxyFor(cluster.endpoint, flags.proxyURL, environmentProxy)
	if err != nil {
		return kubeconfigWritten{}, err
	}
	config := api.NewConfig()
	if flags.file != "-" {
		if config, err = readKubeconfig(flags.file); err != nil {
			return kubeconfigWritten{}, err
		}
	}
	now := time.Now()
	if err := addAdministrator(config, cluster, flags.stateDir, proxy, now); err != nil {
		return kubeconfigWritten{}, err
	}
	if flags.file == "-" {
		return kubeconfigWritten{}, printKubeconfig(stdout, config)
	}
	if err := saveKubeconfig(flags.file, config); err != nil {
		return kubeconfigWritten{}, err
	}
	return kubeconfigWritten{flags.file, name, now.Add(adminLifetime)}, nil
}

func printKubeconfig(w io.Writer, config *api.Config) error {
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode kubeconfig: %w", err)
	}
	_, err = w.Write(data)
	return err
}

// saveKubeconfig writes the file whole, and the one that it leads to where it is a link.
func saveKubeconfig(file string, config *api.Config) error {
	var data bytes.Buffer
	if err := printKubeconfig(&data, config); err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(file); err == nil {
		file = target
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // as kubectl makes it; the file is 0600
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	if err := renameio.WriteFile(file, data.Bytes(), 0o600, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// readKubeconfig reads what is in the file already, so that nothing in it gets lost.
func readKubeconfig(file string) (*api.Config, error) {
	config, err := clientcmd.LoadFromFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return api.NewConfig(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s is there and is no kubeconfig: choose another: %w", file, err)
	}
	return config, nil
}

// addAdministrator makes a certificate and a context of the cluster's name that uses it.
func addAdministrator(config *api.Config, cluster joinable, stateDir, proxy string, now time.Time) error {
	authority, err := authority(cluster, stateDir)
	if err != nil {
		return err
	}
	commonName := "operator"
	if who, err := user.Current(); err == nil && who.Username != "" {
		commonName += ":" + who.Username // for the audit log
	}
	certificate, key, err := authority.Issue(pki.Leaf{
		CommonName: commonName, Organizations: []string{iam.AdminGroup}, Usage: pki.Client, Lifetime: adminLifetime,
	}, now)
	if err != nil {
		return fmt.Errorf("sign an administrator certificate of cluster %s: %w", cluster.name, err)
	}
	admin := cluster.name + "-admin"
	config.Clusters[cluster.name] = &api.Cluster{Server: cluster.endpoint, CertificateAuthorityData: authority.PEM, ProxyURL: proxy}
	config.AuthInfos[admin] = &api.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts[cluster.name] = &api.Context{Cluster: cluster.name, AuthInfo: admin}
	config.CurrentContext = cluster.name
	return nil
}

// authority reads the cluster's key and makes sure that it is the key of the cluster that
// the API described, not of another of the same name.
func authority(cluster joinable, stateDir string) (*pki.Authority, error) {
	directory := filepath.Join(stateDir, "clusters", cluster.name, "pki")
	authority, err := pki.LoadAuthority(directory, "ca")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no key of cluster %s in %s: run this on the service's machine, and name its --state-dir", cluster.name, directory)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of cluster %s: %w", cluster.name, err)
	}
	described, err := base64.StdEncoding.DecodeString(cluster.authority)
	if err != nil || !bytes.Equal(bytes.TrimSpace(described), bytes.TrimSpace(authority.PEM)) {
		return nil, fmt.Errorf("%s holds the key of another cluster %s than the one at %s: name the service's --state-dir", directory, cluster.name, cluster.endpoint)
	}
	return authority, nil
}

func environmentProxy(endpoint *url.URL) (*url.URL, error) {
	return http.ProxyFromEnvironment(&http.Request{URL: endpoint})
}

// proxyFor returns the proxy to the endpoint, "" for none. kubectl reads HTTPS_PROXY too,
// but a kubeconfig should go on working in a shell without it.
func proxyFor(endpoint, given string, environment func(*url.URL) (*url.URL, error)) (string, error) {
	if given != "" {
		u, err := url.Parse(given)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "socks5" {
			return "", cli.Usage(fmt.Errorf("--proxy-url %q: want a URL such as http://127.0.0.1:3128", given))
		}
		return given, nil
	}
	target, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("the cluster's endpoint %q: %w", endpoint, err)
	}
	proxy, err := environment(target)
	if err != nil || proxy == nil {
		return "", err
	}
	return proxy.String(), nil
}
