package nodeconfig_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

// holds fails t if an answer of Parse breaks a promise.
func holds(t *testing.T, userData []byte) {
	t.Helper()
	got, err := nodeconfig.Parse(userData)
	var problems nodeconfig.Problems
	switch {
	case err == nil:
		got.Locate(nodeconfig.Problems{{Field: "spec.cluster.name"}, {Field: "spec.kubelet.flags[0]"}})
	case !errors.As(err, &problems) || len(problems) == 0:
		t.Errorf("the error is a %T", err)
	case strings.Contains(err.Error(), "\n"):
		t.Errorf("the error has more than one line: %q", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", document("cluster: {name: demo}"), document("kubelet: &k {flags: [a]}", "instance: *k"), document("cluster: {}") + "---\n" + document("custer: {}"),
		document("instance:", "  network: {nameservers: [x], domains: [y]}", "featureGates: {A: true}"), document("containerd:", "  config: |", "    [a]"),
		document("kubelet:", "  config:", "    featureGates: {a.b: 1}", "    clusterDNS: [1]"),
		`{"apiVersion":"node.eks.aws/v1alpha1","kind":"NodeConfig","spec":{"a":[{}]}}`,
		"#!/bin/bash\nA=b\n/etc/eks/bootstrap.sh 'demo' \\\n --kubelet-extra-args \"--v=$A\" --dns-cluster-ip 10.0.0.10\n",
		"#!/bin/sh\necho hello\n", gzipped(document("cluster: {}")), "a: &a [*a]\n", "? {a: b}\n: c\n",
	} {
		f.Add([]byte(seed))
	}
	cases, err := filepath.Glob("../testdata/cases/*/input")
	if err != nil || len(cases) == 0 {
		f.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		seed, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, userData []byte) { holds(t, userData) })
}

func FuzzMIME(f *testing.F) {
	for _, seed := range []struct{ header, body string }{
		{"application/node.eks.aws", document("cluster: {name: demo}")},
		{"text/x-shellscript; charset=\"us-ascii\"\nContent-Transfer-Encoding: base64", "IyEvYmluL3NoCg=="},
		{"text/x-shellscript\nContent-Transfer-Encoding: quoted-printable", "#!/bin/sh=0Aecho=\n 1"},
		{"application/x-pem-file", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"},
		{"multipart/mixed; boundary=\"//\"", "--//--\n"}, {"", ""}, {";", "--//\n\n--//"},
	} {
		f.Add(seed.header, seed.body)
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		holds(t, []byte(multi(header, body)))
		holds(t, []byte("MIME-Version: 1.0\nContent-Type: "+header+"\n\n"+body))
	})
}

// merged returns what the node makes of documents with these specs, in JSON's types.
func merged(t *testing.T, specs ...string) (config map[string]any, err error) {
	t.Helper()
	var dropIns []nodeconfig.DropIn
	for _, spec := range specs {
		dropIns = append(dropIns, nodeconfig.DropIn{Data: []byte(`{"apiVersion":"node.eks.aws/v1alpha1","kind":"NodeConfig","spec":` + spec + "}")})
	}
	got, err := nodeconfig.Parse(nil, dropIns...)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(got.Spec)
	if err != nil {
		t.Fatalf("%+v is no JSON: %v", got.Spec, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // digits are not lost
	if err := decoder.Decode(&config); err != nil {
		t.Fatal(err)
	}
	return config, nil
}

// wins fails t if a value of later is not in both. Flags add up and TOML is a document of
// its own.
func wins(t *testing.T, path string, later, both any) {
	t.Helper()
	mapping, ok := later.(map[string]any)
	if !ok {
		if path != ".kubelet.flags" && path != ".containerd.config" && !reflect.DeepEqual(later, both) {
			t.Errorf("%s: the later document has %v, both together %v", path, later, both)
		}
		return
	}
	onto, _ := both.(map[string]any)
	for key, value := range mapping {
		wins(t, path+"."+key, value, onto[key])
	}
}

func flags(config map[string]any) []any {
	kubelet, _ := config["kubelet"].(map[string]any)
	list, _ := kubelet["flags"].([]any)
	return list
}

// FuzzMerge lays three NodeConfigs over each other.
func FuzzMerge(f *testing.F) {
	seeds := []string{
		`{}`, `{"cluster":{"name":"a","cidr":"10.100.0.0/16","enableOutpost":false}}`, `{"cluster":{"name":"b"}}`, `{"cluster":null}`,
		`{"kubelet":{"config":{"maxPods":20,"clusterDNS":["10.100.0.10"],"featureGates":{"A":true}},"flags":["--v=2"]}}`,
		`{"kubelet":{"config":{"maxPods":null,"featureGates":{"A":false,"b.c":true}},"flags":["--v=4"]}}`, `{"kubelet":{"config":{},"flags":[]}}`,
		`{"containerd":{"config":"version = 3\n[a]\nx = 1\n","baseRuntimeSpec":{"process":{"rlimits":[{"soft":1}]}}}}`,
		`{"containerd":{"config":"version = 3\n[a]\nx = 2.5\ny = [1979-05-27]\n[b]\n"}}`, `{"containerd":{"config":"[[a]]\n"}}`,
		`{"instance":{"environment":{"default":{"A":"b"}},"network":{"nameservers":["10.0.0.2"],"domains":["x"]}},"featureGates":{"InstanceIdNodeName":true}}`,
	}
	for i := range seeds {
		f.Add(seeds[i], seeds[(i+1)%len(seeds)], seeds[(i+4)%len(seeds)])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if strings.Contains(a+b+c, "---") {
			return // several documents in one
		}
		var alone []map[string]any
		for _, spec := range []string{a, b, c} {
			config, err := merged(t, spec)
			if err != nil {
				return
			}
			alone = append(alone, config)
			for _, specs := range [][]string{{spec, "{}"}, {"{}", spec}} {
				if with, err := merged(t, specs...); err != nil || !reflect.DeepEqual(with, config) {
					t.Errorf("an empty document changes %v into %v, %v", config, with, err)
				}
			}
		}
		all, err := merged(t, a, b, c)
		if err != nil {
			if !strings.Contains(err.Error(), "spec.containerd.config: ") {
				t.Errorf("each is good, but together: %v", err)
			}
			return
		}
		if again, err := merged(t, a, b, c); err != nil || !reflect.DeepEqual(again, all) {
			t.Errorf("first %v, then %v, %v", all, again, err)
		}
		first, err := merged(t, a, b)
		if err != nil {
			t.Fatalf("three are good, but the first two: %v", err)
		}
		wins(t, "", alone[1], first)
		wins(t, "", alone[2], all)
		if a, b := flags(alone[0]), flags(alone[1]); a != nil && b != nil && !slices.Equal(flags(first), slices.Concat(a, b)) {
			t.Errorf("flags %v and %v become %v", a, b, flags(first))
		}
		data, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if folded, err := merged(t, string(data), c); err != nil || !reflect.DeepEqual(folded, all) {
			t.Errorf("at once %v, one by one %v, %v", all, folded, err)
		}
	})
}
