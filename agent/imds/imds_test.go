package imds_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
)

func start(t *testing.T, answers map[string]string) (*imds.Client, *imdstest.Server) {
	t.Helper()
	server := imdstest.Start(t, answers)
	return imds.New(server.URL, nil), server
}

const document = `{"instanceId":"i-0123456789abcdef0","instanceType":"t3.medium","region":"us-west-2","availabilityZone":"us-west-2b","privateIp":"10.0.16.7"}`

func TestInstanceIsReadWithAToken(t *testing.T) {
	client, _ := start(t, map[string]string{
		"dynamic/instance-identity/document": document,
		"meta-data/local-hostname":           "ip-10-0-16-7.us-west-2.compute.internal ip-10-0-16-7.corp.example\n",
	})
	got, err := client.Instance(t.Context())
	want := imds.Instance{
		ID: "i-0123456789abcdef0", Type: "t3.medium", Region: "us-west-2", AvailabilityZone: "us-west-2b",
		PrivateDNSName: "ip-10-0-16-7.us-west-2.compute.internal",
		PrivateIPv4:    netip.MustParseAddr("10.0.16.7"),
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if got.ProviderID() != "aws:///us-west-2b/i-0123456789abcdef0" {
		t.Errorf("provider ID is %s", got.ProviderID())
	}
}

func TestAnInstanceMayHaveAnIPv6Address(t *testing.T) {
	for answer, want := range map[string]string{"": "invalid IP", "2600:1f14::7\n": "2600:1f14::7"} {
		answers := map[string]string{}
		if answer != "" {
			answers["meta-data/ipv6"] = answer
		}
		client, _ := start(t, answers)
		if got, err := client.IPv6(t.Context()); err != nil || got.String() != want {
			t.Errorf("got %s, %v", got, err)
		}
	}
	for answer, want := range map[string]string{
		"10.0.16.7":    `ipv6 is "10.0.16.7", which is not an IPv6 address without a zone`,
		"fe80::7%eth0": `ipv6 is "fe80::7%eth0", which is not an IPv6 address without a zone`,
		"none":         `ipv6: ParseAddr("none"): unable to parse IP`,
	} {
		client, _ := start(t, map[string]string{"meta-data/ipv6": answer})
		if _, err := client.IPv6(t.Context()); err == nil || err.Error() != "instance metadata: "+want {
			t.Errorf("of %s: %v", answer, err)
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	client, _ := start(t, map[string]string{"dynamic/instance-identity/document": document, "meta-data/local-hostname": ""})
	if _, err := client.Instance(t.Context()); err == nil || err.Error() != "instance metadata: privateDnsName is missing" {
		t.Errorf("got %v", err)
	}
}

func TestWhatCannotBeTrueIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ old, new, want string }{
		"an instance type of two words":  {"t3.medium", "t3 medium", `instanceType is "t3 medium", which is not one word of ASCII`},
		"an IPv6 address as the private": {"10.0.16.7", "2600:1f14::7", `privateIpv4 is "2600:1f14::7", which is not an IPv4 address`},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := start(t, map[string]string{
				"dynamic/instance-identity/document": strings.ReplaceAll(document, test.old, test.new),
				"meta-data/local-hostname":           "name",
			})
			if _, err := client.Instance(t.Context()); err == nil || err.Error() != "instance metadata: "+test.want {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestNoUserDataIsNoError(t *testing.T) {
	client, _ := start(t, nil)
	if data, err := client.UserData(t.Context()); data != nil || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestUserDataComesAsItIs(t *testing.T) {
	client, _ := start(t, map[string]string{"user-data": "\x1f\x8b\x00binary\n"})
	if data, err := client.UserData(t.Context()); string(data) != "\x1f\x8b\x00binary\n" || err != nil {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestTooMuchUserDataIsRefused(t *testing.T) {
	client, _ := start(t, map[string]string{"user-data": strings.Repeat("x", 100<<10)})
	if _, err := client.UserData(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than 65536 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestVersion1IsNeverSpoken(t *testing.T) {
	var calls []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls = append(calls, r.Method+" "+r.URL.Path)
		http.Error(w, "", http.StatusForbidden) // as when tokens are out of the hop limit's reach
	}))
	defer server.Close()
	if _, err := imds.New(server.URL, nil).Instance(t.Context()); err == nil || !strings.Contains(err.Error(), "StatusCode: 403") {
		t.Errorf("got %v", err)
	}
	if len(calls) != 1 || calls[0] != "PUT /latest/api/token" {
		t.Errorf("calls were %q", calls)
	}
}

func TestATokenServesUntilTheServiceRefusesIt(t *testing.T) {
	client, server := start(t, map[string]string{"user-data": "x"})
	server.Expire(1)
	if _, err := client.UserData(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a token that ended: %v", err)
	}
	for range 2 {
		if _, err := client.UserData(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	const put, get = "PUT /latest/api/token", "GET /latest/user-data"
	if want := []string{put, get, put, get, get}; !slices.Equal(server.Calls(), want) {
		t.Errorf("calls were %q", server.Calls())
	}
}

func TestARefusedConnectionIsToldInShort(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	_, err := imds.New(server.URL, nil).UserData(t.Context())
	if err == nil || !strings.HasSuffix(err.Error(), "connection refused") || strings.Contains(err.Error(), "ec2imds") {
		t.Errorf("got %v", err)
	}
}

func TestCredentialsAreTheRoles(t *testing.T) {
	client, _ := start(t, map[string]string{
		"meta-data/iam/security-credentials/":              "ovenbird-node",
		"meta-data/iam/security-credentials/ovenbird-node": `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s","Token":"t","Expiration":"2099-01-01T00:00:00Z"}`,
	})
	got, err := client.Credentials().Retrieve(t.Context())
	if err != nil || got.AccessKeyID != "ASIAEXAMPLE" || got.SessionToken != "t" || !got.CanExpire {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestATagThatIsNotThereIsEmpty(t *testing.T) {
	client, server := start(t, map[string]string{"meta-data/tags/instance/eks:cluster-name": "demo\n"})
	for key, want := range map[string]string{"eks:cluster-name": "demo", "ovenbird.dev-cluster": ""} {
		if got, err := client.Tag(t.Context(), key); err != nil || got != want {
			t.Errorf("%s: got %q, %v", key, got, err)
		}
	}
	server.Drop(10)
	if _, err := client.Tag(t.Context(), "eks:cluster-name"); err == nil {
		t.Error("a service that does not answer has no tags")
	}
}

func TestOnlyTheTagsThatAreWantedAreRead(t *testing.T) {
	client, server := start(t, map[string]string{
		"meta-data/tags/instance":        "Name\nteam:a\nteam:gone\n",
		"meta-data/tags/instance/Name":   "a node",
		"meta-data/tags/instance/team:a": "blue",
	})
	got, err := client.Tags(t.Context(), func(key string) bool { return strings.HasPrefix(key, "team:") })
	if err != nil || len(got) != 1 || got["team:a"] != "blue" {
		t.Errorf("got %v, %v", got, err)
	}
	if calls := server.Calls(); len(calls) != 4 || slices.Contains(calls, "GET /latest/meta-data/tags/instance/Name") {
		t.Errorf("calls were %q", calls)
	}
}

func TestAnInstanceNeedNotShowItsTags(t *testing.T) {
	client, server := start(t, nil)
	if got, err := client.Tags(t.Context(), func(string) bool { return true }); err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	if calls := server.Calls(); len(calls) != 2 {
		t.Errorf("calls were %q", calls)
	}
}
