package imds

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/identity"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// neighbours are two instances with loopback addresses.
type neighbours map[string]fleet.Instance

func (n neighbours) ByAddress(a netip.Addr) (fleet.Instance, bool) {
	i, ok := n[a.String()]
	return i, ok
}

func instances() neighbours {
	one := fleet.Instance{
		ID: "i-00000000000000001", Address: netip.MustParseAddr("127.0.0.1"), SubnetID: "subnet-0bbbbbbbbbbbbbbbb", Zone: "us-west-2b",
		ImageID: "ami-0123456789abcdef0", Type: "t3.medium", MAC: "02:aa:bb:cc:dd:ee", InterfaceID: "eni-01", UserData: []byte("#cloud\x00binary"),
		Profile: "ovenbird-node", MetadataTags: true, Tags: map[string]string{"Name": "one", "team": "a b"}, LaunchTime: time.Date(2030, 1, 2, 3, 4, 5, 678, time.UTC),
	}
	two := one
	two.ID, two.Address, two.UserData, two.Profile, two.MetadataTags = "i-00000000000000002", netip.MustParseAddr("127.0.0.2"), nil, "", false
	return neighbours{"127.0.0.1": one, "127.0.0.2": two}
}

// service is the metadata service on loopback at a time that the test sets.
type service struct {
	*httptest.Server
	now time.Time
}

func serve(t *testing.T, change ...neighbours) *service {
	t.Helper()
	s := &service{now: time.Date(2030, 1, 2, 4, 0, 0, 0, time.UTC)}
	now := func() time.Time { return s.now }
	list := instances()
	for _, other := range change {
		list = other
	}
	s.Server = httptest.NewServer(Service{
		Plan: vpc.Default(), Instances: list, Roles: identity.Roles{Secret: []byte("s"), Now: now},
		Secret: []byte("s"), Now: now, Logger: zaptest.NewLogger(t),
	})
	t.Cleanup(s.Close)
	return s
}

// ask sends one request from the given address.
func (s *service) ask(t *testing.T, from, method, path string, headers ...string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
	}}
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(headers); n += 2 {
		request.Header.Add(headers[n], headers[n+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func (s *service) token(t *testing.T, from string) string {
	t.Helper()
	status, token := s.ask(t, from, http.MethodPut, "/latest/api/token", ttlHeader, "60")
	if status != http.StatusOK {
		t.Fatalf("token: %d %s", status, token)
	}
	return token
}

func TestTheSDKReadsEverythingThatANodeAsksFor(t *testing.T) {
	s := serve(t)
	client := imds.New(imds.Options{Endpoint: s.URL, EnableFallback: aws.FalseTernary})
	for path, want := range map[string]string{
		"instance-id":                    "i-00000000000000001",
		"instance-type":                  "t3.medium",
		"hostname":                       "ip-127-0-0-1.us-west-2.compute.internal",
		"local-hostname":                 "ip-127-0-0-1.us-west-2.compute.internal",
		"local-ipv4":                     "127.0.0.1",
		"mac":                            "02:aa:bb:cc:dd:ee",
		"ami-id":                         "ami-0123456789abcdef0",
		"placement/availability-zone":    "us-west-2b",
		"placement/availability-zone-id": "usw2-az2",
		"placement/region":               "us-west-2",
		"services/domain":                "amazonaws.com",
		"services/partition":             "aws",
		"network/interfaces/macs/":       "02:aa:bb:cc:dd:ee/",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/device-number":          "0",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/local-ipv4s":            "127.0.0.1",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/subnet-id":              "subnet-0bbbbbbbbbbbbbbbb",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/subnet-ipv4-cidr-block": "10.0.16.0/20",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/vpc-id":                 "vpc-0a1b2c3d4e5f60718",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/vpc-ipv4-cidr-block":    "10.0.0.0/16",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/vpc-ipv4-cidr-blocks":   "10.0.0.0/16",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/interface-id":           "eni-01",
		"iam/security-credentials/":                                        "ovenbird-node",
		"tags/instance":                                                    "Name\nteam",
		"tags/instance/team":                                               "a b",
		"placement":                                                        "availability-zone\navailability-zone-id\nregion",
	} {
		out, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, _ := io.ReadAll(out.Content); string(got) != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}

	userData, err := client.GetUserData(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(userData.Content); string(got) != "#cloud\x00binary" {
		t.Errorf("user data %q", got)
	}
	document, err := client.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if document.InstanceID != "i-00000000000000001" || document.AccountID != "111122223333" || document.Region != "us-west-2" ||
		document.AvailabilityZone != "us-west-2b" || document.PrivateIP != "127.0.0.1" || !document.PendingTime.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("document %+v", document.InstanceIdentityDocument)
	}
	info, err := client.GetIAMInfo(t.Context(), nil)
	if err != nil || info.InstanceProfileArn != "arn:aws:iam::111122223333:instance-profile/ovenbird-node" {
		t.Errorf("iam info %+v, %v", info, err)
	}
	if region, err := client.GetRegion(t.Context(), nil); err != nil || region.Region != "us-west-2" {
		t.Errorf("region %+v, %v", region, err)
	}
}

func TestAnInstanceIsToldOfEachOfItsInterfaces(t *testing.T) {
	list := instances()
	i := list["127.0.0.1"]
	i.Interfaces = []fleet.Interface{{
		ID: "eni-02", Index: 1, MAC: "02:11:22:33:44:55", Address: netip.MustParseAddr("10.0.32.77"), SubnetID: "subnet-0cccccccccccccccc",
		Groups: []fleet.Group{{ID: "sg-1", Name: "one"}, {ID: "sg-2", Name: "two"}},
	}}
	list["127.0.0.1"] = i
	s := serve(t, list)
	client := imds.New(imds.Options{Endpoint: s.URL, EnableFallback: aws.FalseTernary})
	const second = "network/interfaces/macs/02:11:22:33:44:55/"
	for path, want := range map[string]string{
		"network/interfaces/macs/":        "02:11:22:33:44:55/\n02:aa:bb:cc:dd:ee/",
		second + "device-number":          "1",
		second + "interface-id":           "eni-02",
		second + "local-hostname":         "ip-10-0-32-77.us-west-2.compute.internal",
		second + "local-ipv4s":            "10.0.32.77",
		second + "subnet-ipv4-cidr-block": "10.0.32.0/20",
		second + "security-group-ids":     "sg-1\nsg-2",
		second + "security-groups":        "one\ntwo",
		"mac":                             "02:aa:bb:cc:dd:ee",
		"local-ipv4":                      "127.0.0.1",
		"network/interfaces/macs/02:aa:bb:cc:dd:ee/device-number": "0",
	} {
		out, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if got, _ := io.ReadAll(out.Content); string(got) != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestTheSDKGetsTheRolesCredentials(t *testing.T) {
	s := serve(t)
	s.now = time.Now() // the provider compares with its own clock
	client := imds.New(imds.Options{Endpoint: s.URL})
	got, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	roles := identity.Roles{Secret: []byte("s"), Now: func() time.Time { return s.now }}
	want, err := roles.Lookup(got.AccessKeyID, []string{"arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-00000000000000001"})
	if err != nil || want.SecretAccessKey != got.SecretAccessKey || want.SessionToken != got.SessionToken {
		t.Errorf("got %+v, STS would know %+v, %v", got, want, err)
	}
}

func TestNothingIsToldWithoutAValidToken(t *testing.T) {
	s := serve(t)
	token := s.token(t, "127.0.0.1")
	const path = "/latest/meta-data/instance-id"
	if status, body := s.ask(t, "127.0.0.1", http.MethodGet, path, tokenHeader, token); status != http.StatusOK || body != "i-00000000000000001" {
		t.Errorf("with a token: %d %s", status, body)
	}
	for name, headers := range map[string][]string{
		"no token":      nil,
		"an empty one":  {tokenHeader, ""},
		"a made-up one": {tokenHeader, strings.Repeat("A", len(token))},
		"a changed one": {tokenHeader, "B" + token[1:]},
		"two":           {tokenHeader, token, tokenHeader, token},
	} {
		if status, _ := s.ask(t, "127.0.0.1", http.MethodGet, path, headers...); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := s.ask(t, "127.0.0.2", http.MethodGet, path, tokenHeader, token); status != http.StatusUnauthorized {
		t.Errorf("another instance's token: %d", status)
	}
	s.now = s.now.Add(61 * time.Second)
	if status, _ := s.ask(t, "127.0.0.1", http.MethodGet, path, tokenHeader, token); status != http.StatusUnauthorized {
		t.Errorf("an expired token: %d", status)
	}
}

func TestATokenIsGivenOnItsTermsOnly(t *testing.T) {
	s := serve(t)
	const path = "/latest/api/token"
	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"the shortest life", []string{ttlHeader, "1"}, 200},
		{"the longest life", []string{ttlHeader, "21600"}, 200},
		{"no life", nil, 400},
		{"a life of zero", []string{ttlHeader, "0"}, 400},
		{"too long a life", []string{ttlHeader, "21601"}, 400},
		{"a life that is no number", []string{ttlHeader, "long"}, 400},
		{"through a proxy", []string{ttlHeader, "60", "X-Forwarded-For", "127.0.0.9"}, 403},
	} {
		if status, _ := s.ask(t, "127.0.0.1", http.MethodPut, path, c.headers...); status != c.status {
			t.Errorf("%s: %d, want %d", c.name, status, c.status)
		}
	}
	if status, _ := s.ask(t, "127.0.0.1", http.MethodPost, path, ttlHeader, "60"); status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", status)
	}
	if status, _ := s.ask(t, "127.0.0.1", http.MethodPut, "/latest/meta-data/", ttlHeader, "60"); status != http.StatusForbidden {
		t.Errorf("PUT elsewhere: %d", status)
	}
}

func TestACallerIsToldAboutItselfOnly(t *testing.T) {
	s := serve(t)
	token := s.token(t, "127.0.0.2")
	for path, want := range map[string]int{
		"/latest/meta-data/instance-id":               200,
		"/latest/user-data":                           404,
		"/latest/meta-data/iam/info":                  404,
		"/latest/meta-data/iam/security-credentials/": 404,
		"/latest/meta-data/tags/instance/Name":        404,
		"/latest/meta-data/nothing":                   404,
		"/latest/meta-data/instance-id/":              404,
		"/1999-01-01/meta-data/":                      404,
		"/2021-03-23/meta-data/mac":                   200,
		"/latest":                                     200,
		"/":                                           200,
	} {
		status, body := s.ask(t, "127.0.0.2", http.MethodGet, path, tokenHeader, token)
		if status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
		if path == "/latest" && body != "dynamic\nmeta-data" {
			t.Errorf("%s lists %q", path, body)
		}
		if path == "/latest/meta-data/instance-id" && body != "i-00000000000000002" {
			t.Errorf("told about %s", body)
		}
	}
	if status, _ := s.ask(t, "127.0.0.3", http.MethodPut, "/latest/api/token", ttlHeader, "60"); status != http.StatusNotFound {
		t.Errorf("a stranger: %d", status)
	}
}

func TestTheSDKSeesA404AsSuch(t *testing.T) {
	client := imds.New(imds.Options{Endpoint: serve(t).URL})
	_, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "nothing"})
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusNotFound {
		t.Errorf("got %v", err)
	}
}

func TestTheDocumentNamesEveryFieldThatEC2Has(t *testing.T) {
	s := serve(t)
	_, body := s.ask(t, "127.0.0.1", http.MethodGet, "/latest/dynamic/instance-identity/document", tokenHeader, s.token(t, "127.0.0.1"))
	var fields map[string]any
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"accountId", "architecture", "availabilityZone", "billingProducts", "devpayProductCodes", "marketplaceProductCodes",
		"imageId", "instanceId", "instanceType", "kernelId", "pendingTime", "privateIp", "ramdiskId", "region", "version"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("no %s", name)
		}
	}
}

func TestPacketsOfAConnectionLiveForOneHop(t *testing.T) {
	listener, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if ttl, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL); ttl != 1 || err != nil {
			t.Errorf("TTL %d, %v", ttl, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAnInstanceIsToldOfTheVPCThatItIsIn(t *testing.T) {
	plan := vpc.Default()
	networks, err := vpc.Open(plan, "")
	if err != nil {
		t.Fatal(err)
	}
	plan.Networks = networks
	if err := networks.Change(func(r *vpc.Record) error {
		r.VPCs = append(r.VPCs, vpc.VPC{ID: "vpc-1", CIDR: netip.MustParsePrefix("10.7.0.0/16")})
		r.Subnets = append(r.Subnets, vpc.Subnet{ID: "subnet-1", VPCID: "vpc-1", ZoneID: "usw2-az3", CIDR: netip.MustParsePrefix("10.7.1.0/28")})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	tree := Service{Plan: plan, Now: time.Now}.tree(fleet.Instance{ID: "i-1", MAC: "02:00:00:00:00:01", SubnetID: "subnet-1", Address: netip.MustParseAddr("10.7.1.4")})
	for path, want := range map[string]string{
		"placement/availability-zone-id":                                   "usw2-az3",
		"network/interfaces/macs/02:00:00:00:00:01/vpc-id":                 "vpc-1",
		"network/interfaces/macs/02:00:00:00:00:01/vpc-ipv4-cidr-block":    "10.7.0.0/16",
		"network/interfaces/macs/02:00:00:00:00:01/vpc-ipv4-cidr-blocks":   "10.7.0.0/16",
		"network/interfaces/macs/02:00:00:00:00:01/subnet-ipv4-cidr-block": "10.7.1.0/28",
	} {
		if got, _ := tree.find("meta-data/" + path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}
