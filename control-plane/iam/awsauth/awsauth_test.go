package awsauth

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// The form in which EKS's documentation and eksctl write it.
const usual = `
- groups:
  - system:bootstrappers
  - system:nodes
  rolearn: arn:aws:iam::111122223333:role/my-role
  username: system:node:{{EC2PrivateDNSName}}
- groups: [eks-console-dashboard-full-access-group]
  rolearn: arn:aws:iam::111122223333:role/division/team/My-Console-Viewer
  username: my-console-viewer
`

func TestAMappingSaysWhatAnAccessEntrySays(t *testing.T) {
	m, err := Parse(map[string]string{
		"mapRoles":    usual,
		"mapUsers":    `[{"userarn": "arn:aws:iam::111122223333:user/path/admin", "username": "admin", "groups": ["system:masters"], "note": "x"}]`,
		"mapAccounts": "- 444455556666\n- \"012345678901\"\n",
		"else":        "{",
	})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		arn, kind, username string
		groups              []string
	}{
		{"arn:aws:iam::111122223333:role/my-role", registry.TypeEC2, registry.NodeUsername, []string{"system:bootstrappers", "system:nodes"}},
		{"arn:aws:iam::111122223333:role/My-Console-Viewer", registry.TypeStandard, "my-console-viewer", []string{"eks-console-dashboard-full-access-group"}},
		{"arn:aws:iam::111122223333:user/path/admin", registry.TypeStandard, "admin", []string{"system:masters"}},
		{"arn:aws:iam::444455556666:role/x", registry.TypeStandard, "arn:aws:iam::444455556666:role/x", nil},
		{"arn:aws:iam::012345678901:user/y", registry.TypeStandard, "arn:aws:iam::012345678901:user/y", nil},
	}
	for _, tt := range tests {
		entry, err := m.Entry(tt.arn)
		if err != nil || entry.Type != tt.kind || entry.Username != tt.username || !slices.Equal(entry.Groups, tt.groups) || len(entry.Policies) != 0 {
			t.Errorf("%s: got %+v, %v", tt.arn, entry, err)
		}
	}
	for _, arn := range []string{"arn:aws:iam::111122223333:role/other", "arn:aws:iam::111122223333:user/admin", "444455556666", ""} {
		if entry, err := m.Entry(arn); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("%q: got %+v, %v, want ErrNotFound", arn, entry, err)
		}
	}
}

func TestAConfigMapThatIsBrokenIsNotUsedInPart(t *testing.T) {
	for want, data := range map[string]map[string]string{
		"mapRoles is not a YAML list":    {"mapRoles": usual + "- rolearn: [", "mapUsers": "[]"},
		"mapUsers is not a YAML list":    {"mapUsers": "admin"},
		"mapAccounts is not a YAML list": {"mapAccounts": "{a: b}"},
		"mapRoles: item 1 has no role":   {"mapRoles": "- rolearn: arn:aws:iam::111122223333:role/a\n- username: b"},
		"mapUsers: item 0 has no user":   {"mapUsers": "- rolearn: arn:aws:iam::111122223333:role/a"},
	} {
		if m, err := Parse(data); err == nil || !strings.Contains(err.Error(), want) || m.principals != nil {
			t.Errorf("got %+v, %v, want %q", m, err, want)
		}
	}
	if m, err := Parse(nil); err != nil || len(m.principals) != 0 {
		t.Errorf("an empty one: got %+v, %v", m, err)
	}
}
