package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/namespace"
)

// sdk is an AWS configuration as `env` gives it to a client on the host.
func (l testLab) sdk(t *testing.T) aws.Config {
	t.Helper()
	var env map[string]string
	if err := json.Unmarshal([]byte(l.run(t, "env", "--output", "json")), &env); err != nil {
		t.Fatal(err)
	}
	proxy, err := url.Parse(env["HTTPS_PROXY"])
	if err != nil {
		t.Fatal(err)
	}
	return aws.Config{
		Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: trust(t, env["AWS_CA_BUNDLE"])}},
	}
}

func trust(t *testing.T, bundle string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots}
}

func testFromTheHost(t *testing.T, l testLab, id string) {
	config := l.sdk(t)
	caller, err := sts.NewFromConfig(config).GetCallerIdentity(t.Context(), nil)
	if err != nil || *caller.Arn != "arn:aws:iam::111122223333:user/admin" {
		t.Errorf("the caller is %v, %v", caller, err)
	}
	out, err := ec2.NewFromConfig(config).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Reservations[0].Instances[0]; got.State.Name != "running" || *got.Tags[0].Key != "kubernetes.io/cluster/demo" {
		t.Errorf("%+v", got)
	}
}

// guest is a network namespace in the place of an instance: the instance's own machine is
// stopped, and its addresses are a veth pair's on the same subnet.
type guest struct{ name string }

func newGuest(t *testing.T, l testLab, id string) guest {
	t.Helper()
	out, err := ec2.NewFromConfig(l.sdk(t)).DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	i := out.Reservations[0].Instances[0]
	bridge := "subnet-" + (*i.Placement.AvailabilityZone)[len("us-west-2"):]
	pid := l.machine(t, id)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	g := guest{name: l.name + "guest"}
	if err := namespace.Create(g.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = namespace.Delete(g.name)
		_ = syscall.Kill(pid, syscall.SIGCONT)
	})
	mac, address := *i.NetworkInterfaces[0].MacAddress, *i.PrivateIpAddress
	g.script(t, l.name, `
		set -e
		bridge fdb del `+mac+` dev tap`+id[len(id)-11:]+` master
		ip link add port master `+bridge+` up type veth peer name eth0 address `+mac+` netns `+g.name+`
	`)
	router := map[string]string{"subnet-a": "10.0.0.1", "subnet-b": "10.0.16.1", "subnet-c": "10.0.32.1"}[bridge]
	g.script(t, g.name, `
		set -e
		ip link set lo up
		ip addr add `+address+`/20 dev eth0
		ip link set eth0 up
		ip route add default via `+router+`
	`)
	return g
}

// script runs shell lines inside a namespace.
func (g guest) script(t *testing.T, name, lines string) {
	t.Helper()
	var out []byte
	err := namespace.Do(name, func() (err error) {
		out, err = exec.Command("sh", "-c", lines).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("in %s: %v: %s\n%s", name, err, lines, out)
	}
}

// dial connects from inside the guest. control may set socket options.
func (g guest) dial(ctx context.Context, network, address string, control func(fd int) error) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		if control != nil {
			err := raw.Control(func(fd uintptr) { set = control(int(fd)) })
			return errors.Join(err, set)
		}
		return nil
	}}
	err = namespace.Do(g.name, func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (g guest) transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return g.dial(ctx, network, address, nil)
	}}
}

func testInstance(t *testing.T, l testLab, id string) {
	g := newGuest(t, l, id)
	metadata := imds.New(imds.Options{HTTPClient: &http.Client{Transport: g.transport()}, EnableFallback: aws.FalseTernary})
	read := func(path string) string {
		out, err := metadata.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: path})
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		text, _ := io.ReadAll(out.Content)
		return string(text)
	}
	if got := read("instance-id"); got != id {
		t.Errorf("it is told that it is %s, not %s", got, id)
	}
	name, address := read("local-hostname"), read("local-ipv4")

	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return g.dial(ctx, network, "10.0.0.2:53", nil)
	}}
	if found, err := resolver.LookupHost(t.Context(), name+"."); err != nil || len(found) != 1 || found[0] != address {
		t.Errorf("%s resolves to %v, %v", name, found, err)
	}
	if found, err := resolver.LookupAddr(t.Context(), address); err != nil || len(found) != 1 || found[0] != name+"." {
		t.Errorf("%s resolves to %v, %v", address, found, err)
	}

	// Its role's credentials are good at the endpoint, for what the role may do.
	through := g.transport()
	through.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return g.dial(ctx, network, "10.0.0.3:443", nil)
	}
	through.TLSClientConfig = trust(t, l.dir+"/ca.crt")
	config := aws.Config{
		Region: read("placement/region"), BaseEndpoint: aws.String("https://aws.lab.internal"), HTTPClient: &http.Client{Transport: through},
		Credentials: ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = metadata }),
	}
	caller, err := sts.NewFromConfig(config).GetCallerIdentity(t.Context(), nil)
	if err != nil || *caller.Arn != "arn:aws:sts::111122223333:assumed-role/ovenbird-node/"+id {
		t.Errorf("the caller is %v, %v", caller, err)
	}
	_, err = ec2.NewFromConfig(config).TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if err == nil || !strings.Contains(err.Error(), "UnauthorizedOperation") {
		t.Errorf("its role terminates instances: %v", err)
	}
	testOneHop(t, g)
	testOthersAddress(t, g)
}

// testOneHop drops what has less than two hops left to live, as a forwarding host would:
// the metadata service must be out of reach then, and other services must not.
func testOneHop(t *testing.T, g guest) {
	for address, reached := range map[string]bool{"169.254.169.254:80": false, "10.0.0.3:443": true} {
		conn, err := g.dial(t.Context(), "tcp4", address, func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, 2)
		})
		if (err == nil) != reached {
			t.Errorf("%s from behind the instance: %v", address, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

// testOthersAddress takes another address of the subnet: the lab does not speak with it
// about anyone.
func testOthersAddress(t *testing.T, g guest) {
	g.script(t, g.name, `
		set -e
		old=$(ip -o -4 addr show dev eth0 | awk '{print $4}')
		new=$(echo "$old" | awk -F'[./]' '{printf "%s.%s.%s.%d/20", $1, $2, $3, $4 == 200 ? 201 : 200}')
		router=$(ip route show default | awk '{print $3}')
		ip addr del "$old" dev eth0
		ip addr add "$new" dev eth0
		ip route replace default via "$router" src "${new%/*}"
	`)
	client := &http.Client{Transport: g.transport(), Timeout: 5 * time.Second}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://169.254.169.254/latest/api/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-aws-ec2-metadata-token-ttl-seconds", "60")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("a stranger gets %s", response.Status)
	}
}
