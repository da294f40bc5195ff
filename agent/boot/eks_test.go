package boot_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/apiserver/apiservertest"
	"github.com/ovenbird-dev/ovenbird/agent/discover/ekstest"
	"github.com/ovenbird-dev/ovenbird/agent/identity"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const kubeconfigPath = "/var/lib/kubelet/kubeconfig"

// discovered is user-data that leaves it to EKS where the cluster is: spec.cluster is
// cluster, and what EKS shows for a certificate is trusted.
func discovered(eks *ekstest.Server, cluster, variables string) string {
	return fmt.Sprintf(`MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="x"

--x
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: %s
  instance:
    environment:
      default: {AWS_ENDPOINT_URL_EKS: %q, AWS_ENDPOINT_URL_STS: "https://%s/"%s}
--x
Content-Type: application/x-pem-file

%s
--x--
`, cluster, eks.URL, stsHost, variables, eks.CA)
}

func TestAClusterIsFoundWithAsFewAWSCallsAsCanBe(t *testing.T) {
	for name, test := range map[string]struct {
		cluster string // "": all of it
		tag     string
		calls   int
	}{
		"all is in user-data":      {calls: 0},
		"its name is in user-data": {cluster: "{name: demo}", calls: 1},
		"its name is in a tag":     {cluster: "{}", tag: "ovenbird.dev-cluster", calls: 1},
		"its name is in EKS's tag": {cluster: "{}", tag: "eks:cluster-name", calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			eks := ekstest.Start(t, ekstest.Cluster("ACTIVE", w.server.URL, w.server.CA, ekstest.IPv4))
			if test.cluster != "" {
				w.metadata.Set("user-data", discovered(eks, test.cluster, ""))
			}
			if test.tag != "" {
				w.metadata.Set("meta-data/tags/instance/"+test.tag, "demo")
			}
			w.mustJoin()
			calls := eks.Calls()
			if len(calls) != test.calls {
				t.Errorf("%d AWS calls, want %d", len(calls), test.calls)
			}
			for _, call := range calls { // it is not AWS, so it cannot verify a signature
				if proof := call.Header.Get("Authorization"); !strings.HasPrefix(proof, "Bearer "+ststoken.Prefix) {
					t.Errorf("who asks is proved by %.20q", proof)
				}
			}
			dns := "172.20.0.10"
			if test.calls == 0 {
				dns = "10.100.0.10"
			}
			if config := w.read("/etc/kubernetes/kubelet/config.json"); !strings.Contains(config, dns) {
				t.Errorf("kubelet's configuration has no %s", dns)
			}
		})
	}
}

func TestWhatKeepsAClusterFromBeingFoundIsTriedAgain(t *testing.T) {
	for name, test := range map[string]struct {
		answers  []ekstest.Answer
		attempts int
		says     string
	}{
		"EKS is throttling and then away": {[]ekstest.Answer{
			{Status: 429, Error: "ThrottlingException", Body: `{"message":"Rate exceeded"}`},
			{Status: 429, Error: "ThrottlingException", Body: `{"message":"Rate exceeded"}`},
			{Status: 503, Error: "ServiceUnavailableException", Body: `{"message":"later"}`},
		}, 4, "503 ServiceUnavailableException: later"},
		"the cluster comes later": {[]ekstest.Answer{
			{Status: 404, Error: "ResourceNotFoundException", Body: `{"message":"No cluster found for name: demo."}`},
			ekstest.Cluster("CREATING", "", nil, "{}"),
		}, 3, "cluster demo is CREATING"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			eks := ekstest.Start(t, append(test.answers, ekstest.Cluster("ACTIVE", w.server.URL, w.server.CA, ekstest.IPv4))...)
			w.metadata.Set("user-data", discovered(eks, "{name: demo}", ""))
			got := phase(t, w.mustJoin(), "configuration")
			if got.Attempts != test.attempts || !strings.Contains(got.LastError, test.says) || len(eks.Calls()) != test.attempts {
				t.Errorf("got %d attempts, %d calls, the last error %q", got.Attempts, len(eks.Calls()), got.LastError)
			}
		})
	}
}

func TestAnInstanceWithoutUserDataOrTagSaysWhatItNeeds(t *testing.T) {
	w := newWorld(t)
	w.metadata.Unset("user-data")
	w.at("configuration (try 1 failed", func() { w.metadata.Set("user-data", w.userData("")) })
	if got := phase(t, w.mustJoin(), "configuration"); got.Attempts != 2 || !strings.HasPrefix(got.LastError, "nothing names the cluster: put spec.cluster.name into user-data") {
		t.Errorf("got %+v", got)
	}
}

func TestWhereNothingElseIsSaidTheRegionsEKSIsAskedByTheProxy(t *testing.T) {
	for region, want := range map[string]string{
		"us-west-2":  "CONNECT eks.us-west-2.amazonaws.com:443",
		"cn-north-1": "CONNECT eks.cn-north-1.amazonaws.com.cn:443",
	} {
		t.Run(region, func(t *testing.T) {
			w := newWorld(t)
			asked := make(chan string, 10)
			proxy := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
				asked <- r.Method + " " + r.Host
				http.Error(out, "", http.StatusForbidden)
			}))
			t.Cleanup(proxy.Close)
			w.metadata.Set("dynamic/instance-identity/document", fmt.Sprintf(`{"instanceId":"i-0","instanceType":"t3.medium","region":%q,"availabilityZone":"a","privateIp":"10.0.1.5"}`, region))
			w.metadata.Set("user-data", fmt.Sprintf("apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {cluster: {name: demo}, instance: {environment: {default: {HTTPS_PROXY: %q}}}}\n", proxy.URL))
			w.at("configuration (try 1 failed", func() { w.metadata.Set("user-data", w.userData("")) })
			if got := phase(t, w.mustJoin(), "configuration"); got.Attempts != 2 || got.LastError != "ask EKS about cluster demo: Forbidden" {
				t.Errorf("got %+v", got)
			}
			if got := <-asked; got != want || len(asked) != 0 {
				t.Errorf("the proxy was asked for %s and %d more, want %s", got, len(asked), want)
			}
		})
	}
}

// amazon makes the world's cluster one of Amazon EKS: its API server has a name below
// theirs, which leads to the server here through a proxy.
func (w *world) amazon() *ekstest.Server {
	w.t.Helper()
	w.stsHost = "sts.us-west-2.amazonaws.com"
	proxy := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != apiservertest.AmazonHost+":443" {
			w.t.Errorf("the proxy was asked for %s %s", r.Method, r.Host)
			http.Error(out, "", http.StatusBadGateway)
			return
		}
		server, err := new(net.Dialer).DialContext(w.t.Context(), "tcp", strings.TrimPrefix(w.server.URL, "https://"))
		if err != nil {
			w.t.Error(err)
			return
		}
		client, _, err := out.(http.Hijacker).Hijack()
		if err != nil {
			w.t.Error(err)
			return
		}
		_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(server, client); server.Close() }()
		_, _ = io.Copy(client, server)
		client.Close()
	}))
	w.t.Cleanup(proxy.Close)
	eks := ekstest.Start(w.t, ekstest.Cluster("ACTIVE", "https://"+apiservertest.AmazonHost, w.server.CA, ekstest.IPv4))
	w.metadata.Set("user-data", discovered(eks, "{name: demo}", fmt.Sprintf(`, HTTPS_PROXY: %q`, proxy.URL)))
	return eks
}

func TestANodeOfAmazonEKSShowsTokensAndAsksForNoCertificate(t *testing.T) {
	w := newWorld(t)
	eks := w.amazon()
	// Tokens end while the node waits: the next is another.
	w.at("ready (kubelet has not reported since this start)", func() { w.clock.leap(15 * time.Minute) })
	w.mustJoin()

	if requests := w.server.Requests(); len(requests) != 0 {
		t.Errorf("certificates were asked for: %+v", requests)
	}
	if len(eks.Calls()) != 1 {
		t.Errorf("%d AWS calls", len(eks.Calls()))
	}
	if len(w.distinct) != 2 {
		t.Errorf("%d tokens were shown, want one before 15 minutes and one after", len(w.distinct))
	}
	for path, want := range map[string]string{
		kubeconfigPath: `      command: /usr/bin/ovenbird-agent
      args:
      - token
      - --cluster
      - "demo"
      - --region
      - "us-west-2"
      - --sts-endpoint
      - "https://sts.us-west-2.amazonaws.com/"
`,
		"/etc/eks/kubelet/environment":        "--cloud-provider=external",
		"/etc/kubernetes/kubelet/config.json": `"rotateCertificates": false`,
	} {
		if got := w.read(path); !strings.Contains(got, want) {
			t.Errorf("%s has no %s:\n%s", path, want, got)
		}
	}
	for _, path := range []string{conflist, "/var/lib/kubelet/pki"} {
		if _, err := os.Stat(w.root.Join(path)); err == nil {
			t.Errorf("%s is there", path)
		}
	}

	w.units.calls = nil
	w.mustJoin()
	if got := strings.Join(w.units.calls, ", "); got != "start containerd.service, start kubelet.service" {
		t.Errorf("another run asks systemd for %s", got)
	}
}

func TestTokensCanBeForced(t *testing.T) {
	w := newWorld(t)
	w.identity = identity.Token
	w.mustJoin()
	if requests := w.server.Requests(); len(requests) != 0 {
		t.Errorf("certificates were asked for: %+v", requests)
	}
	if got := w.read(kubeconfigPath); !strings.Contains(got, `"https://`+stsHost+`/"`) {
		t.Errorf("kubelet's tokens are for another STS:\n%s", got)
	}
	// The cluster is Ovenbird's all the same.
	if flags := w.read("/etc/eks/kubelet/environment"); strings.Contains(flags, "--cloud-provider") {
		t.Errorf("kubelet waits for a cloud controller: %s", flags)
	}
	w.read(conflist)

	// And back.
	w.identity = identity.Certificate
	w.units.calls = nil
	w.mustJoin()
	if got := w.read(kubeconfigPath); strings.Contains(got, "exec") || len(w.server.Requests()) != 1 {
		t.Errorf("kubelet still shows tokens:\n%s", got)
	}
	if last := w.units.calls[len(w.units.calls)-1]; last != "restart kubelet.service" {
		t.Errorf("kubelet still shows tokens: %q", last)
	}
}

func TestAClusterThatDoesNotKnowTheRoleIsAskedAgain(t *testing.T) {
	w := newWorld(t)
	w.amazon()
	known := w.server.Token
	w.server.Token = func(string) string { return "" }
	w.at("api-server (try 2 failed", func() { w.server.Token = known })
	got := phase(t, w.mustJoin(), "api-server")
	if got.Attempts != 3 || !strings.Contains(got.LastError, "(has the cluster an access entry of type EC2_LINUX for this instance's role?)") {
		t.Errorf("got %+v", got)
	}
}
