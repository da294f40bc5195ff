package nodeconfig_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true},
		&x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

const header = "apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\n"

// document indents spec's lines under "spec:".
func document(lines ...string) string {
	return header + "spec:\n  " + strings.Join(lines, "\n  ") + "\n"
}

func complete(t *testing.T) string {
	return document("cluster:", "  name: demo", "  apiServerEndpoint: https://10.0.0.10:6443",
		"  certificateAuthority: "+base64.StdEncoding.EncodeToString([]byte(certificate(t))), "  cidr: 10.100.0.0/16")
}

// multi makes a MIME multipart of type, body pairs.
func multi(pairs ...string) string {
	var b strings.Builder
	b.WriteString("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n")
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "--//\nContent-Type: %s\n\n%s\n", pairs[i], pairs[i+1])
	}
	b.WriteString("--//--\n")
	return b.String()
}

func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

func TestEveryEnvelopeIsOpened(t *testing.T) {
	plain := complete(t)
	const nodeConfig = "application/node.eks.aws"
	for name, userData := range map[string]string{
		"plain YAML":                plain,
		"YAML behind a line of ---": "---\n" + plain,
		"gzip":                      gzipped(plain),
		"base64":                    base64.StdEncoding.EncodeToString([]byte(plain)) + "\n",
		"base64 of gzip":            base64.StdEncoding.EncodeToString([]byte(gzipped(plain))),
		"one MIME part":             multi(nodeConfig, plain),
		"a MIME part with charset":  multi(nodeConfig+`; charset="us-ascii"`, plain),
		"gzip of MIME":              gzipped(multi(nodeConfig, plain)),
		"MIME without multipart":    "Content-Type: " + nodeConfig + "\nMIME-Version: 1.0\n\n" + plain,
		"a MIME part in base64": "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: " + nodeConfig +
			"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(plain)) + "\n--B--\n",
		"CRLF line ends": strings.ReplaceAll(multi(nodeConfig, plain), "\n", "\r\n"),
		"an empty part":  multi("text/plain", "  ", nodeConfig, plain),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nodeconfig.Parse([]byte(userData))
			if err != nil {
				t.Fatal(err)
			}
			if got.Spec.Cluster.Name != "demo" || got.Spec.Cluster.CIDR != "10.100.0.0/16" {
				t.Errorf("got %+v", got.Spec.Cluster)
			}
		})
	}
}

func TestJSONIsReadToo(t *testing.T) {
	got, err := nodeconfig.Parse([]byte(`{"apiVersion":"node.eks.aws/v1alpha1","kind":"NodeConfig","spec":{"cluster":{"name":"demo"}}}`))
	if err != nil || got.Spec.Cluster.Name != "demo" {
		t.Errorf("got %+v, %v", got.Spec, err)
	}
}

func TestTrustedAuthoritiesAddUp(t *testing.T) {
	a, b := certificate(t), certificate(t)
	got, err := nodeconfig.Parse([]byte(multi("application/x-pem-file", a, "application/node.eks.aws", complete(t), "application/x-pem-file", b)))
	if err != nil {
		t.Fatal(err)
	}
	if string(got.TrustedCAs) != a+b {
		t.Errorf("got %s", got.TrustedCAs)
	}
}

func TestLaterDocumentsWin(t *testing.T) {
	first := document("cluster:", "  name: demo", "  cidr: 10.100.0.0/16", "kubelet:",
		"  config:", "    maxPods: 20", "    clusterDNS: [10.100.0.10]", "    featureGates: {A: true, B: true}", "    evictionHard: {memory.available: 100Mi}",
		"  flags: [--v=2]", "containerd:", "  config: |", "    [a]", "    x = 1", "    y = 1",
		"instance:", "  environment:", "    default: {ONE: a, TWO: a}")
	second := document("cluster:", "  name: other", "kubelet:",
		"  config:", "    maxPods: 30", "    clusterDNS: [10.0.0.2]", "    featureGates: {B: false, C: true}",
		"  flags: [--v=4]", "containerd:", "  config: |", "    [a]", "    y = 2", "    [b]", "    z = 3",
		"instance:", "  environment:", "    default: {TWO: b}", "    systemd_kubelet: {THREE: c}")
	const nodeConfig = "application/node.eks.aws"
	for name, userData := range map[string]string{
		"as MIME parts":          multi(nodeConfig, first, nodeConfig, second),
		"as documents of one":    first + "---\n" + second,
		"as documents of a part": multi(nodeConfig, first+"---\n"+second),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nodeconfig.Parse([]byte(userData))
			if err != nil {
				t.Fatal(err)
			}
			want := nodeconfig.Spec{
				Cluster: nodeconfig.Cluster{Name: "other", CIDR: "10.100.0.0/16"},
				Kubelet: nodeconfig.Kubelet{
					Config: map[string]any{
						"maxPods": int64(30), "clusterDNS": []any{"10.0.0.2"},
						"featureGates": map[string]any{"A": true, "B": false, "C": true},
						"evictionHard": map[string]any{"memory.available": "100Mi"},
					},
					Flags: []string{"--v=2", "--v=4"},
				},
				Containerd: nodeconfig.Containerd{Config: "[a]\nx = 1\ny = 2\n\n[b]\nz = 3\n"},
				Instance: nodeconfig.Instance{Environment: nodeconfig.Environment{
					"default": {"ONE": "a", "TWO": "b"}, "systemd_kubelet": {"THREE": "c"},
				}},
			}
			if !reflect.DeepEqual(got.Spec, want) {
				t.Errorf("got  %+v\nwant %+v", got.Spec, want)
			}
		})
	}
}

func TestAMistakeIsOneLineThatNamesPartAndField(t *testing.T) {
	const nodeConfig = "application/node.eks.aws"
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}))
	for name, test := range map[string]struct{ userData, want string }{
		"nothing at all": {" \n", "empty: a NodeConfig is needed"},
		"an unknown field": {
			document("cluster:", "  nam: demo"), "line 5: spec.cluster.nam: unknown field"},
		"an unknown field of another case": {
			document("cluster:", "  Name: demo"), "line 5: spec.cluster.Name: unknown field"},
		"an unknown field in the second part": {
			multi(nodeConfig, complete(t), nodeConfig, document("kubelets: {}")), "part 2 (application/node.eks.aws), line 4: spec.kubelets: unknown field"},
		"an unknown field in the second document of a part": {
			multi(nodeConfig, complete(t)+"---\n"+document("kubelets: {}")), "part 1 (application/node.eks.aws), document 2, line 13: spec.kubelets: unknown field"},
		"a key given twice": {
			document("cluster:", "  name: a", "  name: b"), `line 6: key "name" already set in map`},
		"a key given twice in the second document": {
			document("cluster: {}") + "---\n" + document("cluster:", "  name: a", "  name: b"), `document 2, line 11: key "name" already set in map`},
		"a wrong value beside a key with dots": {
			document("kubelet:", "  config:", "    featureGates:", "      a.b: true", "      a: 1"), "line 8: spec.kubelet.config.featureGates.a: want true or false, not 1"},
		"a wrong flag behind an anchor": {
			header + "spec:\n  kubelet: &k\n    flags: [v]\n", `line 5: spec.kubelet.flags[0]: "v" is not a flag such as --node-labels=a=b`},
		"an unknown field in JSON": {
			"{\"apiVersion\":\"node.eks.aws/v1alpha1\",\"kind\":\"NodeConfig\",\n\"spec\":{\n\"custer\":{}}}", "line 3: spec.custer: unknown field"},
		"a number for a string": {
			document("cluster:", "  name: 12"), "line 5: spec.cluster.name: want a string, not number"},
		"a string for a list": {
			document("kubelet:", "  flags: --v=2"), "line 5: spec.kubelet.flags: want a list, not string"},
		"a string for a mapping": {
			document("cluster: demo"), "line 4: spec.cluster: want a mapping, not string"},
		"a string for a truth value": {
			document("cluster:", "  enableOutpost: maybe"), "line 5: spec.cluster.enableOutpost: want true or false, not string"},
		"broken YAML": {
			header + "spec: [", "line 3: did not find expected node content"},
		"another kind": {
			"apiVersion: v1\nkind: Pod\n", `line 1: apiVersion: want node.eks.aws/v1alpha1, not "v1"; line 2: kind: want NodeConfig, not "Pod"`},
		"no kind": {
			"apiVersion: node.eks.aws/v1alpha1\n", `line 1: kind: want NodeConfig, not ""`},
		"a cluster name with a slash": {
			document("cluster:", "  name: a/b"), `line 5: spec.cluster.name: "a/b" is not a cluster name: a letter or digit first, then letters, digits, - and _, 100 at most`},
		"an authority that is no base64": {
			document("cluster:", "  certificateAuthority: '%%'"), "line 5: spec.cluster.certificateAuthority: not base64"},
		"an authority that is no certificate": {
			document("cluster:", "  certificateAuthority: Y2VydGlmaWNhdGVBdXRob3JpdHk="), "line 5: spec.cluster.certificateAuthority: not a PEM certificate"},
		"an authority that is a key": {
			document("cluster:", "  certificateAuthority: "+base64.StdEncoding.EncodeToString([]byte(key))),
			"line 5: spec.cluster.certificateAuthority: PEM block 1 is a PRIVATE KEY, not a CERTIFICATE"},
		"a bad CIDR block": {
			document("cluster:", "  cidr: 10.100.0.0"), `line 5: spec.cluster.cidr: "10.100.0.0" is not a CIDR block such as 10.100.0.0/16`},
		"a plain http endpoint": {
			document("cluster:", "  apiServerEndpoint: http://x"), `line 5: spec.cluster.apiServerEndpoint: "http://x" is not an endpoint such as https://host:443`},
		"an endpoint with a password, which is not told": {
			document("cluster:", "  apiServerEndpoint: https://a:secret@x"), `line 5: spec.cluster.apiServerEndpoint: want no user in it`},
		"an endpoint without a host": {
			document("cluster:", "  apiServerEndpoint: https://"), `line 5: spec.cluster.apiServerEndpoint: "https://" is not an endpoint such as https://host:443`},
		"broken containerd TOML": {
			document("containerd:", "  config: |", "    [a"), "line 5: spec.containerd.config: not TOML at line 1, column 3: expected ']' to close table name"},
		"a kubelet field of the wrong type": {
			document("kubelet:", "  config:", "    maxPods: many"), `line 6: spec.kubelet.config.maxPods: want a whole number, not "many"`},
		"a kubelet duration that is none": {
			document("kubelet:", "  config:", "    shutdownGracePeriod: soon"), `line 6: spec.kubelet.config.shutdownGracePeriod: want a duration such as 2m30s, not "soon"`},
		"a nested kubelet field of the wrong type": {
			document("kubelet:", "  config:", "    authentication: {webhook: {enabled: 1}}"), "line 6: spec.kubelet.config.authentication.webhook.enabled: want true or false, not 1"},
		"a kubelet list of the wrong type": {
			document("kubelet:", "  config:", "    clusterDNS: 10.0.0.2"), `line 6: spec.kubelet.config.clusterDNS: want a list, not "10.0.0.2"`},
		"a kubelet list with a wrong element": {
			document("kubelet:", "  config:", "    clusterDNS: [10.0.0.2, 3]"), "line 6: spec.kubelet.config.clusterDNS[1]: want a string, not 3"},
		"a kubelet mapping of the wrong type": {
			document("kubelet:", "  config:", "    kubeReserved: {cpu: 1}"), "line 6: spec.kubelet.config.kubeReserved.cpu: want a string, not 1"},
		"another kubelet API version": {
			document("kubelet:", "  config:", "    apiVersion: v1"), "line 6: spec.kubelet.config.apiVersion: want kubelet.config.k8s.io/v1beta1, not \"v1\""},
		"a kubelet flag without dashes": {
			document("kubelet:", "  flags: [node-labels=a=b]"), `line 5: spec.kubelet.flags[0]: "node-labels=a=b" is not a flag such as --node-labels=a=b`},
		"a kubelet flag of two lines": {
			document("kubelet:", `  flags: ["--a=b\nX=y"]`), "line 5: spec.kubelet.flags[0]: a flag must be one line"},
		"an environment for nobody": {
			document("instance:", "  environment:", "    sshd: {A: b}"),
			"line 6: spec.instance.environment.sshd: unknown field: want default, systemd_kubelet or systemd_containerd"},
		"an environment variable with a bad name": {
			document("instance:", "  environment:", "    default: {A-B: c}"), `line 6: spec.instance.environment.default: "A-B" is not the name of an environment variable`},
		"an environment variable of two lines": {
			document("instance:", "  environment:", `    default: {A: "b\nc"}`), "line 6: spec.instance.environment.default.A: a value must be one line"},
		"a name server by name": {
			document("instance:", "  network:", "    nameservers: [10.0.0.2, dns.example]"), `line 6: spec.instance.network.nameservers[1]: "dns.example" is not an IP address`},
		"a domain of two words": {
			document("instance:", "  network:", "    domains:", "    - a.example", "    - b c"), `line 8: spec.instance.network.domains[1]: "b c" is not a domain such as example.com`},
		"a feature that is not on or off": {
			document("featureGates: {Magic: 1}"), "line 4: spec.featureGates: want true or false, not number"},
		"a shell script alone": {
			"#!/bin/sh\nreboot\n", "shell scripts alone name no cluster: put them and a NodeConfig into a MIME multipart, as parts of type text/x-shellscript and application/node.eks.aws, or call /etc/eks/bootstrap.sh"},
		"cloud-config": {
			"#cloud-config\n{}\n", "content type text/cloud-config is not supported; these are: application/node.eks.aws, application/x-pem-file, text/x-shellscript"},
		"a part without a type": {
			"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\n\nhello\n--B--\n",
			"part 1 (text/plain): content type text/plain is not supported; these are: application/node.eks.aws, application/x-pem-file, text/x-shellscript"},
		"a PEM part that is none": {
			multi("application/x-pem-file", "hello", nodeConfig, complete(t)), "part 1 (application/x-pem-file): not a PEM certificate"},
		"authorities only": {
			multi("application/x-pem-file", certificate(t)), "no part of type application/node.eks.aws"},
		"multipart without a boundary": {
			"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nx", "Content-Type: multipart without a boundary"},
		"multipart without its end": {
			"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=B\n\n--B\nContent-Type: " + nodeConfig + "\n\n" + complete(t),
			"part 1 (application/node.eks.aws): cut short: the boundary after it is missing"},
		"TOML of two versions": {
			document("containerd:", "  config: version = 2") + "---\n" + document("containerd:", "  config: version = 3"),
			"spec.containerd.config: two NodeConfigs have TOML of different versions (2 and 3), which cannot be merged"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nodeconfig.Parse([]byte(test.userData))
			if err == nil {
				t.Fatal("accepted")
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Error("the error has more than one line")
			}
		})
	}
}

func TestWhatIsNotThereYetIsRefusedByName(t *testing.T) {
	for field, lines := range map[string][]string{
		"spec.cluster.enableOutpost":    {"cluster:", "  enableOutpost: true"},
		"spec.instance.storage.volumes": {"instance:", "  storage: {volumes: [{device: /dev/x}]}"},
	} {
		t.Run(field, func(t *testing.T) {
			_, err := nodeconfig.Parse([]byte(document(lines...)))
			var problems nodeconfig.Problems
			if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Field != field || !strings.HasPrefix(problems[0].Message, "not supported yet") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLocalStorageIsChecked(t *testing.T) {
	for lines, want := range map[string]string{
		"{strategy: RAID0}":  "",
		"{strategy: RAID10}": "",
		"{strategy: Mount, mountPath: /mnt/k8s-disks, disabledMounts: [Containerd, PodLogs]}": "",
		"{strategy: RAID0, mountPath: /var/data}":                                             "",
		"{strategy: raid0}":                                    `strategy: "raid0" is none of RAID0, RAID10, Mount`,
		"{mountPath: /mnt/x}":                                  "mountPath: has no effect without localStorage.strategy: add RAID0, RAID10 or Mount",
		"{disabledMounts: [PodLogs]}":                          "disabledMounts: has no effect without localStorage.strategy: add RAID0, RAID10 or Mount",
		"{strategy: RAID0, disabledMounts: [Logs]}":            `disabledMounts[0]: "Logs" is none of Containerd, PodLogs`,
		"{strategy: RAID0, mountPath: mnt}":                    `mountPath: "mnt" is not a path such as /mnt/k8s-disks: want an absolute one of letters, digits, - _ and .`,
		"{strategy: RAID0, mountPath: /}":                      `mountPath: "/" is not a path such as /mnt/k8s-disks: want an absolute one of letters, digits, - _ and .`,
		"{strategy: RAID0, mountPath: /mnt/}":                  `mountPath: "/mnt/" is not a path such as /mnt/k8s-disks: want an absolute one of letters, digits, - _ and .`,
		"{strategy: RAID0, mountPath: /mnt/../etc}":            `mountPath: "/mnt/../etc" is not a path such as /mnt/k8s-disks: want an absolute one of letters, digits, - _ and .`,
		"{strategy: RAID0, mountPath: /var}":                   "mountPath: /var is the system's own: use a directory in /mnt or /var",
		"{strategy: RAID0, mountPath: /usr/local}":             "mountPath: /usr/local is the system's own: use a directory in /mnt or /var",
		"{strategy: RAID0, mountPath: /var/lib/kubelet/disks}": "mountPath: /var/lib/kubelet/disks is the system's own: use a directory in /mnt or /var",
	} {
		t.Run(lines, func(t *testing.T) {
			_, err := nodeconfig.Parse([]byte(document("instance:", "  localStorage: "+lines)))
			if want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := "line 5: spec.instance.localStorage." + want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestTheStrategyMayComeWithAnotherDocument(t *testing.T) {
	dropIn := nodeconfig.DropIn{Path: "10-disks.yaml", Data: []byte(document("instance: {localStorage: {mountPath: /mnt/fast}}"))}
	got, err := nodeconfig.Parse([]byte(document("instance: {localStorage: {strategy: Mount}}")), dropIn)
	if want := "/mnt/fast"; err != nil || got.Spec.Instance.LocalStorage.MountPath != want {
		t.Errorf("got %+v, %v", got.Spec.Instance.LocalStorage, err)
	}
}

func TestAMaxPodsExpressionIsCompiled(t *testing.T) {
	got, err := nodeconfig.Parse([]byte(document("kubelet: {maxPodsExpression: max_pods + 2}")))
	if err != nil || got.Spec.Kubelet.MaxPodsExpression != "max_pods + 2" {
		t.Errorf("got %+v, %v", got.Spec.Kubelet, err)
	}
	_, err = nodeconfig.Parse([]byte(document("kubelet: {maxPodsExpression: max_pods +}")))
	if want := "line 4: spec.kubelet.maxPodsExpression: line 1, column 11: Syntax error: mismatched input '<EOF>'"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestWhatIsSwitchedOffIsAccepted(t *testing.T) {
	if _, err := nodeconfig.Parse([]byte(document("cluster: {enableOutpost: false, id: x}", "featureGates: {InstanceIdNodeName: false}", "instance: {localStorage: {}}"))); err != nil {
		t.Error(err)
	}
}

func TestAKubeletFieldThatKubeletIgnoresIsAWarning(t *testing.T) {
	got, err := nodeconfig.Parse([]byte(document("kubelet: {config: {maxPod: 3, authentication: {x509: {ca: x}}}}")))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"line 4: spec.kubelet.config.authentication.x509.ca: kubelet has no such field and ignores it", "line 4: spec.kubelet.config.maxPod: kubelet has no such field and ignores it"}
	if !reflect.DeepEqual(got.Warnings, want) {
		t.Errorf("got %q, want %q", got.Warnings, want)
	}
}

func TestAFeatureThatIsNotHereIsAWarning(t *testing.T) {
	got, err := nodeconfig.Parse([]byte(document("featureGates: {InstanceIdNodeName: true, Magic: true, Other: false}")))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"line 4: spec.featureGates.Magic: there is no such feature here, so it has no effect"}; !reflect.DeepEqual(got.Warnings, want) {
		t.Errorf("got %q, want %q", got.Warnings, want)
	}
}

func TestDropInsComeBeforeUserData(t *testing.T) {
	base := nodeconfig.DropIn{Path: "/etc/ovenbird/nodeconfig.d/10-base.yaml", Data: []byte(document("cluster: {name: a, cidr: 10.100.0.0/16}", "kubelet: {flags: [--v=2]}"))}
	site := nodeconfig.DropIn{Path: "/etc/ovenbird/nodeconfig.d/20-site.yaml", Data: []byte(document("cluster: {name: b}"))}
	got, err := nodeconfig.Parse([]byte(document("cluster: {name: c}", "kubelet: {flags: [--v=4]}")), base, site)
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Spec.Cluster; c.Name != "c" || c.CIDR != "10.100.0.0/16" || !reflect.DeepEqual(got.Spec.Kubelet.Flags, []string{"--v=2", "--v=4"}) {
		t.Errorf("got %+v", got.Spec)
	}
	if got, err = nodeconfig.Parse(nil, base, site); err != nil || got.Spec.Cluster.Name != "b" {
		t.Errorf("without user-data: %+v, %v", got.Spec, err)
	}
	site.Data = []byte(document("clutser: {}"))
	if _, err := nodeconfig.Parse([]byte(document("cluster: {}")), base, site); err == nil || err.Error() != site.Path+", line 4: spec.clutser: unknown field" {
		t.Errorf("got %v", err)
	}
}

func TestEveryMistakeIsToldAtOnce(t *testing.T) {
	_, err := nodeconfig.Parse([]byte(document("cluster: {name: a/b, cidr: x, nam: y}", "kubelet: {flags: [v]}")))
	var problems nodeconfig.Problems
	if !errors.As(err, &problems) || len(problems) != 4 {
		t.Errorf("got %v", err)
	}
}

func TestABombIsRefused(t *testing.T) {
	_, err := nodeconfig.Parse([]byte(gzipped(strings.Repeat("a: b\n", 1<<20))))
	if err == nil || !strings.Contains(err.Error(), "longer than 1048576 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestScriptsAreHandedOnInTheirOrder(t *testing.T) {
	const script, nodeConfig = "text/x-shellscript", "application/node.eks.aws"
	message := multi(script, "#!/bin/sh\necho 1", nodeConfig, complete(t), script, "#!/bin/sh\necho 2", script, "echo 3")
	for name, userData := range map[string]string{"plain": message, "with line ends of mail": strings.ReplaceAll(message, "\n", "\r\n")} {
		t.Run(name, func(t *testing.T) {
			got, err := nodeconfig.Parse([]byte(userData))
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			for _, script := range got.Scripts {
				said = append(said, script.Name+" "+string(script.Body))
			}
			want := []string{"part 1 (text/x-shellscript) #!/bin/sh\necho 1", "part 3 (text/x-shellscript) #!/bin/sh\necho 2", "part 4 (text/x-shellscript) echo 3"}
			if !reflect.DeepEqual(said, want) {
				t.Errorf("got %q, want %q", said, want)
			}
			warning := []string{"part 4 (text/x-shellscript): will fail: a script begins with #! and its interpreter"}
			if !reflect.DeepEqual(got.Warnings, warning) {
				t.Errorf("got %q, want %q", got.Warnings, warning)
			}
		})
	}
}

func TestAClusterNameHasAHundredCharactersAtMost(t *testing.T) {
	for length, want := range map[int]bool{0: false, 1: true, 100: true, 101: false} {
		if got := nodeconfig.IsClusterName(strings.Repeat("a", length)); got != want {
			t.Errorf("of %d characters: %t", length, got)
		}
	}
}
