package operator_test

import (
	"bufio"
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/spf13/cobra"

	"github.com/ovenbird-dev/ovenbird/control-plane/operator"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// bearerService answers ListClusters to whoever has a token, and is STS too; the environment
// of the test points to both. It returns the file of its certificate.
func bearerService(t *testing.T) (url, caFile string) {
	t.Helper()
	routes := http.NewServeMux()
	routes.HandleFunc("GET /clusters", func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "+ststoken.Prefix)
		if !ok || token == "" || r.Header.Get("X-Amz-Date") != "" {
			w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"no token"}`)
			return
		}
		_, _ = io.WriteString(w, `{"clusters":[]}`)
	})
	routes.HandleFunc("POST /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	})
	server := httptest.NewTLSServer(routes)
	t.Cleanup(server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	environment(t, server.URL)
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	t.Setenv("AWS_CA_BUNDLE", caFile)
	return server.URL, caFile
}

func TestACommandProvesWhoCallsAsItIsTold(t *testing.T) {
	_, caFile := bearerService(t)
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want string // in the error; empty: none
	}{
		{"a signature by default", nil, nil, "no token"},
		{"a token", nil, []string{"--auth", "bearer"}, ""},
		{"a token by the environment", map[string]string{"OVENBIRD_AUTH": "bearer"}, nil, ""},
		{"a signature in spite of the environment", map[string]string{"OVENBIRD_AUTH": "bearer"}, []string{"--auth", "sigv4"}, "no token"},
		{"a token, the account given", map[string]string{"AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1"}, []string{"--auth", "bearer", "--account-id", "111122223333"}, ""},
		{"a certificate for the service alone", map[string]string{"AWS_CA_BUNDLE": ""}, []string{"--auth", "bearer", "--account-id", "111122223333", "--ca-file", caFile}, ""},
		{"a service that is not trusted", map[string]string{"AWS_CA_BUNDLE": ""}, []string{"--auth", "bearer", "--account-id", "111122223333"}, "certificate"},
		{"a file without a certificate", nil, []string{"--ca-file", os.DevNull}, "no certificate"},
		{"something else", nil, []string{"--auth", "basic"}, "want sigv4 or bearer"},
		{"a token without TLS", map[string]string{"AWS_ENDPOINT_URL_EKS": "http://127.0.0.1:1"}, []string{"--auth", "bearer"}, "in the clear"},
		{"a token for Amazon EKS", map[string]string{"AWS_ENDPOINT_URL_EKS": ""}, []string{"--auth", "bearer"}, "takes no bearer tokens"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			_, _, err := ovenbird(t, append([]string{"cluster", "list"}, tt.args...)...)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTheProxyPrintsWhatToSetAndServesUntilItIsInterrupted(t *testing.T) {
	endpoint, caFile := bearerService(t)
	output, input := io.Pipe()
	proxy := func(out io.Writer, args ...string) *cobra.Command {
		root := &cobra.Command{Use: "ovenbird", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(operator.ProxyCommand())
		root.SetOut(out)
		root.SetArgs(append([]string{"proxy", "--endpoint", endpoint, "--ca-file", caFile}, args...))
		return root
	}
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- proxy(input).ExecuteContext(ctx)
		_ = input.Close()
	}()
	var address string
	for lines := bufio.NewScanner(output); address == "" && lines.Scan(); {
		if after, ok := strings.CutPrefix(lines.Text(), "export AWS_ENDPOINT_URL_EKS="); ok {
			address = after
		}
	}
	if !strings.HasPrefix(address, "http://127.0.0.1:") {
		t.Fatalf("printed %q, ended with %v", address, <-ended)
	}
	sdk := eks.New(eks.Options{Region: "us-west-2", BaseEndpoint: aws.String(address), Retryer: aws.NopRetryer{}, Credentials: credentials.NewStaticCredentialsProvider("AKIA", "secret", "")})
	if _, err := sdk.ListClusters(t.Context(), &eks.ListClustersInput{}); err != nil {
		t.Error(err)
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("interrupted: %v", err)
	}
	for _, listen := range []string{"0.0.0.0:0", "localhost:0", ":0"} {
		if err := proxy(io.Discard, "--listen", listen).ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "--listen") {
			t.Errorf("%s: got %v", listen, err)
		}
	}
}
