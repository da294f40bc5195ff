package kubelet

import (
	"slices"
	"strings"
	"testing"

	kubeletapis "k8s.io/kubelet/pkg/apis"
)

func TestTagsAreLabelsAndTaints(t *testing.T) {
	for name, test := range map[string]struct {
		key, value     string
		labels, taints []string
		warning        string
	}{
		"a label":                             {"ovenbird.dev-label:team", "blue", []string{"team=blue"}, nil, ""},
		"a colon is the slash":                {"ovenbird.dev-label:example.com:team", "blue", []string{"example.com/team=blue"}, nil, ""},
		"only one colon is":                   {"ovenbird.dev-label:example.com:team:a", "blue", nil, nil, "is no label's key"},
		"kubelet's own domain":                {"ovenbird.dev-label:node.kubernetes.io:lifecycle", "spot", []string{"node.kubernetes.io/lifecycle=spot"}, nil, ""},
		"below kubelet's own domain":          {"ovenbird.dev-label:a.kubelet.kubernetes.io:b", "c", []string{"a.kubelet.kubernetes.io/b=c"}, nil, ""},
		"another domain of Kubernetes":        {"ovenbird.dev-label:kubernetes.io:role", "x", nil, nil, "of kubernetes.io and k8s.io"},
		"a role":                              {"ovenbird.dev-label:node-role.kubernetes.io:control-plane", "", nil, nil, "of kubernetes.io and k8s.io"},
		"k8s.io":                              {"ovenbird.dev-label:x.k8s.io:a", "b", nil, nil, "of kubernetes.io and k8s.io"},
		"what only looks like it":             {"ovenbird.dev-label:mykubernetes.io:a", "b", []string{"mykubernetes.io/a=b"}, nil, ""},
		"what a node is restricted from":      {"ovenbird.dev-label:x.node-restriction.kubernetes.io:a", "b", nil, nil, "may not give itself"},
		"what the instance says":              {"ovenbird.dev-label:node.kubernetes.io:instance-type", "b", nil, nil, "the instance itself"},
		"no key":                              {"ovenbird.dev-label:", "b", nil, nil, "is no label's key"},
		"no value of a label":                 {"ovenbird.dev-label:a", "b c", nil, nil, "is no label's value"},
		"a flag in a value":                   {"ovenbird.dev-label:a", "b,c=d", nil, nil, "is no label's value"},
		"a taint":                             {"ovenbird.dev-taint:example.com:a", "b:PreferNoSchedule", nil, []string{"example.com/a=b:PreferNoSchedule"}, ""},
		"a taint without a value":             {"ovenbird.dev-taint:a", ":NoExecute", nil, []string{"a=:NoExecute"}, ""},
		"a taint without an effect":           {"ovenbird.dev-taint:a", "b", nil, nil, "want value:Effect"},
		"a taint with an effect of none":      {"ovenbird.dev-taint:a", "b:noschedule", nil, nil, "want value:Effect"},
		"a taint with a value of none":        {"ovenbird.dev-taint:a", "b=c:NoExecute", nil, nil, "is no taint's value"},
		"a taint with a key of none":          {"ovenbird.dev-taint:a b", "c:NoExecute", nil, nil, "is no taint's key"},
		"a label of Cluster Autoscaler's":     {"k8s.io/cluster-autoscaler/node-template/label/example.com/a", "b", []string{"example.com/a=b"}, nil, ""},
		"a taint of Cluster Autoscaler's":     {"k8s.io/cluster-autoscaler/node-template/taint/a", "b:NoSchedule", nil, []string{"a=b:NoSchedule"}, ""},
		"another tag":                         {"Name", "b", nil, nil, ""},
		"a tag that names the node's cluster": {"ovenbird.dev-cluster", "demo", nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, warnings := ReadTags(map[string]string{test.key: test.value})
			if !slices.Equal(got.labels, test.labels) || !slices.Equal(got.taints, test.taints) {
				t.Errorf("got %+v", got)
			}
			if said := strings.Join(warnings, "\n"); (said == "") != (test.warning == "") || !strings.Contains(said, test.warning) {
				t.Errorf("warned %q, want %q", said, test.warning)
			}
			if read := len(got.labels)+len(got.taints)+len(warnings) > 0; read != IsNodeTag(test.key) {
				t.Error("what is read of instance metadata is not what is made of it")
			}
			for _, label := range got.labels {
				key, _, _ := strings.Cut(label, "=")
				if domain, _, _ := strings.Cut(key, "/"); below(domain, "kubernetes.io") && !kubeletapis.IsKubeletLabel(key) {
					t.Errorf("kubelet does not start with %s", key)
				}
			}
		})
	}
}

func TestOurOwnTagsWinOverClusterAutoscalers(t *testing.T) {
	got, warnings := ReadTags(map[string]string{
		"ovenbird.dev-label:a.example:b": "ours", "k8s.io/cluster-autoscaler/node-template/label/a.example/b": "theirs",
	})
	if !slices.Equal(got.labels, []string{"a.example/b=ours"}) || warnings != nil {
		t.Errorf("got %+v, %q", got, warnings)
	}
}

func TestTaintsOfTagsComeBesidesTheUsers(t *testing.T) {
	taint := func(key, value, effect string) any {
		return map[string]any{"key": key, "value": value, "effect": effect}
	}
	configured := map[string]any{"registerWithTaints": []any{taint("a", "1", "NoSchedule"), taint("c", "", "NoExecute")}}
	for name, test := range map[string]struct {
		tags   map[string]string
		flags  []string
		config map[string]any
		want   []string
	}{
		"no tags, no flag":               {nil, []string{"--register-with-taints=a=1:NoSchedule"}, configured, nil},
		"nothing of the user's":          {map[string]string{"a": "2:NoSchedule"}, nil, nil, []string{"--register-with-taints=a=2:NoSchedule"}},
		"the user's flag wins by key":    {map[string]string{"a": "2:NoSchedule", "b": "2:NoSchedule"}, []string{"--register-with-taints=a=1:NoSchedule"}, nil, []string{"--register-with-taints=a=1:NoSchedule,b=2:NoSchedule"}},
		"another effect is another one":  {map[string]string{"a": "2:NoExecute"}, []string{"--register-with-taints a=1:NoSchedule"}, nil, []string{"--register-with-taints=a=1:NoSchedule,a=2:NoExecute"}},
		"the last flag alone counts":     {map[string]string{"b": "2:NoExecute"}, []string{"--register-with-taints=a=1:NoSchedule", "--register-with-taints=c:NoSchedule"}, nil, []string{"--register-with-taints=c:NoSchedule,b=2:NoExecute"}},
		"the user's configuration":       {map[string]string{"a": "2:NoSchedule", "b": "2:NoSchedule"}, nil, configured, []string{"--register-with-taints=a=1:NoSchedule,c:NoExecute,b=2:NoSchedule"}},
		"a flag hides the configuration": {map[string]string{"b": "2:NoSchedule"}, []string{"--register-with-taints=d:NoSchedule"}, configured, []string{"--register-with-taints=d:NoSchedule,b=2:NoSchedule"}},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.UserFlags, in.UserConfig = test.flags, test.config
			tags := map[string]string{}
			for key, value := range test.tags {
				tags[taintTag+key] = value
			}
			in.FromTags, _ = ReadTags(tags)
			if got := taintFlags(in); !slices.Equal(got, test.want) {
				t.Errorf("got %q", got)
			}
			if got := flags(in); len(test.want) > 0 && got[len(got)-1] != test.want[0] {
				t.Errorf("kubelet takes the last of %q", got)
			}
		})
	}
}
