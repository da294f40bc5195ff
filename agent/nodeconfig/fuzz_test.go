package nodeconfig_test

import (
	"errors"
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
