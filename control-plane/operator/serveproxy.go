package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/bearer"
	"github.com/ovenbird-dev/ovenbird/internal/cli"
)

const endpointVariable = "AWS_ENDPOINT_URL_EKS"

type proxyFlags struct{ endpoint, listen string }

// ProxyCommand is `ovenbird proxy`.
func ProxyCommand() *cobra.Command {
	var flags proxyFlags
	connection := &auth{kind: authBearer}
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Let the AWS CLI and SDKs on this machine use a service that takes bearer tokens",
		Long: `Let the AWS CLI and SDKs on this machine use a service that takes bearer tokens.

The AWS CLI and SDKs can only sign, and nobody but AWS can verify that. The proxy takes what
is signed with the AWS credentials that it finds itself (the usual chain), and passes it on
with a token that AWS STS vouches for. It listens on a loopback address and prints the
variable to set in the other shell. It runs until it is interrupted.`,
		Example: "  ovenbird proxy --endpoint https://eks.example.internal --ca-file eks-api-ca.crt",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&flags.endpoint, "endpoint", os.Getenv(endpointVariable), "address of the service, https://host; $"+endpointVariable)
	cmd.Flags().StringVar(&flags.listen, "listen", "127.0.0.1:0", "loopback address and port to listen on; port 0: any that is free")
	connection.addConnection(cmd)
	output := cli.AddOutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		listener, err := listenLoopback(cmd.Context(), flags.listen)
		if err != nil {
			return err
		}
		defer listener.Close()
		log, err := cli.Logger()
		if err != nil {
			return err
		}
		proxy, err := connection.proxy(cmd.Context(), flags.endpoint, log)
		if err != nil {
			return err
		}
		url := "http://" + listener.Addr().String()
		err = output.Print(cmd.OutOrStdout(), map[string]string{"url": url, "endpoint": flags.endpoint}, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "# listening on %s, for %s\nexport %s=%s\n", listener.Addr(), flags.endpoint, endpointVariable, url)
			return err
		})
		if err != nil {
			return err
		}
		return serveProxy(cmd.Context(), listener, proxy.Handler())
	}
	return cmd
}

func (a *auth) proxy(ctx context.Context, endpoint string, log *zap.Logger) (bearer.Proxy, error) {
	loaded, err := load(ctx)
	if err != nil {
		return bearer.Proxy{}, err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client, err := a.bearer(call, loaded, endpoint)
	if err != nil {
		return bearer.Proxy{}, err
	}
	return bearer.Proxy{Client: client, Credentials: loaded.Credentials, Region: loaded.Region, Log: log.Named("proxy")}, nil
}

func listenLoopback(ctx context.Context, address string) (net.Listener, error) {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil || !parsed.Addr().Unmap().IsLoopback() {
		return nil, cli.Usage(fmt.Errorf("--listen %q: want a loopback address and a port, such as 127.0.0.1:8443", address))
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the AWS CLI and SDKs: %w", err)
	}
	return listener, nil
}

// serveProxy serves until ctx ends.
func serveProxy(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the AWS CLI and SDKs: %w", err)
	}
	return nil
}
