package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/faulttest"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

func TestATokenIsWhatKubeletAsksFor(t *testing.T) {
	metadata := imdstest.Start(t, map[string]string{
		"dynamic/instance-identity/document":               `{"instanceId":"i-0","instanceType":"t3.medium","region":"cn-north-1","availabilityZone":"cn-north-1a","privateIp":"10.0.1.5"}`,
		"meta-data/local-hostname":                         "ip-10-0-1-5.cn-north-1.compute.internal",
		"meta-data/iam/security-credentials/":              "ovenbird-node",
		"meta-data/iam/security-credentials/ovenbird-node": `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"the-secret-key","Token":"the-session-token","Expiration":"2099-01-01T00:00:00Z"}`,
	})
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	for name, test := range map[string]struct {
		asked, endpoint string
		args            []string
		version, host   string
	}{
		"version 1":                 {`{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential"}`, "", nil, "client.authentication.k8s.io/v1", "sts.cn-north-1.amazonaws.com.cn"},
		"version 1 beta 1":          {`{"apiVersion":"client.authentication.k8s.io/v1beta1"}`, "", nil, "client.authentication.k8s.io/v1beta1", "sts.cn-north-1.amazonaws.com.cn"},
		"no version":                {"", "", []string{"--region", "us-west-2"}, "client.authentication.k8s.io/v1", "sts.us-west-2.amazonaws.com"},
		"an STS that is a flag":     {"", "https://other/", []string{"--sts-endpoint", "https://sts.lab/"}, "client.authentication.k8s.io/v1", "sts.lab"},
		"an STS of the environment": {"", "https://sts.lab/", nil, "client.authentication.k8s.io/v1", "sts.lab"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBERNETES_EXEC_INFO", test.asked)
			t.Setenv("AWS_ENDPOINT_URL_STS", test.endpoint)
			stdout, _, err := run(tokenCommand(), append(test.args, "--cluster", "demo")...)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				APIVersion, Kind string
				Status           struct {
					Token               string
					ExpirationTimestamp time.Time
				}
			}
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatal(err)
			}
			if left := time.Until(got.Status.ExpirationTimestamp); got.APIVersion != test.version || got.Kind != "ExecCredential" || left < 13*time.Minute || left > 14*time.Minute {
				t.Errorf("got %s %s for %s", got.APIVersion, got.Kind, left)
			}
			if _, err := ststoken.Parse(got.Status.Token, test.host, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNoTokenIsMadeForWhoAsksWrongly(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
	for says, test := range map[string]struct {
		info string
		args []string
	}{
		"--cluster: \"\" is not a cluster name":                {},
		"KUBERNETES_EXEC_INFO is not JSON":                     {"x", []string{"--cluster", "demo"}},
		`KUBERNETES_EXEC_INFO asks for "v9": want`:             {`{"apiVersion":"v9"}`, []string{"--cluster", "demo"}},
		"read the identity document from instance metadata":    {"", []string{"--cluster", "demo"}},
		"get AWS credentials to sign a token for cluster demo": {"", []string{"--cluster", "demo", "--region", "us-west-2"}},
	} {
		t.Setenv("KUBERNETES_EXEC_INFO", test.info)
		stdout, _, err := run(tokenCommand(), test.args...)
		if err == nil || !strings.HasPrefix(err.Error(), says) || stdout != "" {
			t.Errorf("got %q, %v; want %s", stdout, err, says)
		}
	}
}

// TestMain lets the test's program stand for the agent, as kubelet runs it and as systemd
// does on a machine of faulttest's.
func TestMain(m *testing.M) {
	if clock, ok := faulttest.Enter(); ok {
		os.Exit(joinBy(clock))
	}
	if os.Getenv("RUN_AS_AGENT") == "" {
		os.Exit(m.Run())
	}
	main()
}

func TestKubeletsClientRunsTheAgentForItsToken(t *testing.T) {
	metadata := imdstest.Start(t, map[string]string{
		"meta-data/iam/security-credentials/":              "ovenbird-node",
		"meta-data/iam/security-credentials/ovenbird-node": `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"the-secret-key","Token":"the-session-token","Expiration":"2099-01-01T00:00:00Z"}`,
	})
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	t.Setenv("RUN_AS_AGENT", "1")
	server := apiservertest.Start(t)
	shown := ""
	server.Token = func(token string) string {
		shown = token
		return "system:node:a"
	}
	kubeconfig := identity.TokenKubeconfig(discover.Cluster{Name: "demo", Endpoint: server.URL, CA: server.CA}, "us-west-2", "https://sts.us-west-2.amazonaws.com/")
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig.Data)
	if err != nil {
		t.Fatal(err)
	}
	if config.ExecProvider.Command, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Get(server.URL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if _, err := ststoken.Parse(shown, "sts.us-west-2.amazonaws.com", time.Now()); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("the API server answered %d, of the token it is said: %v", response.StatusCode, err)
	}
}
