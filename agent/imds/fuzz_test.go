package imds_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/imds/imdstest"
)

const (
	credentials = `{"Code":"Success","Type":"AWS-HMAC","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"the-secret-key","Token":"the-session-token","Expiration":"2099-01-01T00:00:00Z"}`
	anyTag      = "meta-data/tags/instance/eks:cluster-name"
)

// FuzzInstance reads all that the agent asks for from a service with the given answers.
func FuzzInstance(f *testing.F) {
	for _, seed := range [][5]string{
		{document, "ip-10-0-16-7.us-west-2.compute.internal ip-10-0-16-7.corp.example\n", "2600:1f14::7", "demo\n", credentials},
		{document, "name", "", "", `{"Code":"AssumeRoleUnauthorizedAccess","Message":"x"}`},
		{`{"privateIp":"::1"}`, "\x00", "fe80::1%eth0", " ", "{}"},
		{strings.Replace(document, "t3.medium", "t3 medium", 1), "a\u00a0b", "10.0.0.1", "a\nb", "null"},
		{"[]", "", "x", "", ""},
		{strings.Replace(document, "10.0.16.7", "::1%\\n", 1), "name", "::1%\nx", "", `{"Code":"a\nb","Message":"c\nd"}`},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	server := imdstest.Start(f, map[string]string{"meta-data/iam/security-credentials/": "role"})
	client := imds.New(server.URL, nil)
	f.Fuzz(func(t *testing.T, identity, names, ipv6, tag, role string) {
		for path, answer := range map[string]string{
			"dynamic/instance-identity/document": identity, "meta-data/local-hostname": names, "meta-data/ipv6": ipv6, anyTag: tag,
			"meta-data/iam/security-credentials/role": role,
		} {
			server.Set(path, answer)
		}
		got, err := client.Instance(t.Context())
		if err != nil {
			oneLine(t, err)
		} else {
			holds(t, got, names)
		}
		if address, err := client.IPv6(t.Context()); err != nil {
			oneLine(t, err)
		} else if !address.Is6() || address.Zone() != "" {
			t.Errorf("accepted the address %s", address)
		}
		if value, err := client.Tag(t.Context(), "eks:cluster-name"); err == nil && value != strings.TrimSpace(tag) {
			t.Errorf("tag %q is read as %q", tag, value)
		}
		if keys, err := client.Credentials().Retrieve(t.Context()); err != nil {
			oneLine(t, err)
		} else if !keys.CanExpire {
			t.Errorf("keys that last for ever come from %q", role)
		}
	})
}

// holds fails t if the instance cannot stand in kubelet's flags and a node's name.
func holds(t *testing.T, got imds.Instance, names string) {
	t.Helper()
	for _, value := range []string{got.ID, got.Type, got.Region, got.AvailabilityZone, got.PrivateDNSName, got.ProviderID()} {
		if value == "" || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
			t.Errorf("accepted %+v", got)
		}
	}
	if !strings.Contains(names, got.PrivateDNSName) {
		t.Errorf("name %q comes from %q", got.PrivateDNSName, names)
	}
	if !got.PrivateIPv4.Is4() {
		t.Errorf("address %s", got.PrivateIPv4)
	}
	if err := got.Complete(); err != nil {
		t.Errorf("accepted %+v: %v", got, err)
	}
}

// oneLine fails t if a console could not show err in a line, or shows a secret in it.
func oneLine(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.Contains(text, "\n") || strings.Contains(text, "the-secret-key") {
		t.Errorf("the error is %q", text)
	}
}
