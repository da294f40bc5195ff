package nodeconfig_test

import (
	"encoding/base64"
	"reflect"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
)

func TestACallOfBootstrapIsANodeConfig(t *testing.T) {
	ca := base64.StdEncoding.EncodeToString([]byte(certificate(t)))
	cluster := nodeconfig.Cluster{Name: "demo", APIServerEndpoint: "https://x.example", CertificateAuthority: ca, CIDR: "172.20.0.0/24"}
	const plain = "/etc/eks/bootstrap.sh demo --apiserver-endpoint https://x.example --b64-cluster-ca @ --dns-cluster-ip 172.20.0.10"
	for name, test := range map[string]struct {
		script  string
		kubelet nodeconfig.Kubelet
	}{
		"in one line":           {"#!/bin/bash\n" + plain, nodeconfig.Kubelet{}},
		"options first":         {"#!/bin/bash\n/etc/eks/bootstrap.sh --apiserver-endpoint https://x.example --dns-cluster-ip 172.20.0.10 --b64-cluster-ca @ demo", nodeconfig.Kubelet{}},
		"with comments and set": {"#!/bin/bash -xe\n# join\nset -o xtrace\nset -euo pipefail; " + plain + " # done\n", nodeconfig.Kubelet{}},
		"with continued lines and quotes": {"#!/bin/bash\n/etc/eks/bootstrap.sh 'demo' \\\n  --apiserver-endpoint \"https://x.example\" \\\n  --b64-cluster-ca \\\n  @ --dns-cluster-ip 172.20.0.10 \\\n" +
			"  --kubelet-extra-args '--node-labels=a=b,c=d --v 3 --eviction-hard=memory.available<5%' --container-runtime containerd\n",
			nodeconfig.Kubelet{Flags: []string{"--node-labels=a=b,c=d", "--v=3", "--eviction-hard=memory.available<5%"}}},
		"as a managed node group has it": {"#!/bin/bash\nset -ex\nB64_CLUSTER_CA=@\nAPI_SERVER_URL=https://x.example\nK8S_CLUSTER_DNS_IP=172.20.0.10\n" +
			"/etc/eks/bootstrap.sh demo --kubelet-extra-args '--max-pods=17' --b64-cluster-ca $B64_CLUSTER_CA --apiserver-endpoint ${API_SERVER_URL} --dns-cluster-ip \"$K8S_CLUSTER_DNS_IP\" --use-max-pods false\n",
			nodeconfig.Kubelet{Flags: []string{"--max-pods=17"}}},
		"as many pods as kubelet takes":       {"#!/bin/sh\n" + plain + " --use-max-pods false", nodeconfig.Kubelet{Config: map[string]any{"maxPods": int64(110)}}},
		"as many pods as there are addresses": {"#!/bin/sh\n" + plain + " --use-max-pods true", nodeconfig.Kubelet{}},
		"with another name server": {"#!/bin/sh\n" + strings.Replace(plain, "172.20.0.10", "172.20.0.53", 1),
			nodeconfig.Kubelet{Config: map[string]any{"clusterDNS": []any{"172.20.0.53"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			script := strings.ReplaceAll(test.script, "@", ca)
			for _, userData := range []string{script, multi("text/x-shellscript", script), strings.ReplaceAll(multi("text/x-shellscript", script), "\n", "\r\n")} {
				got, err := nodeconfig.Parse([]byte(userData))
				if err != nil {
					t.Fatal(err)
				}
				if want := (nodeconfig.Spec{Cluster: cluster, Kubelet: test.kubelet}); !reflect.DeepEqual(got.Spec, want) || got.Scripts != nil {
					t.Errorf("got  %+v\nwant %+v", got.Spec, want)
				}
			}
		})
	}
}

func TestACallOfBootstrapCanBeIPv6(t *testing.T) {
	got, err := nodeconfig.Parse([]byte("#!/bin/sh\n/etc/eks/bootstrap.sh demo --ip-family ipv6 --service-ipv6-cidr fd00:1::/108"))
	if err != nil || got.Spec.Cluster.CIDR != "fd00:1::/108" {
		t.Errorf("got %+v, %v", got.Spec, err)
	}
}

func TestBootstrapAndNodeConfigsAreMerged(t *testing.T) {
	got, err := nodeconfig.Parse([]byte(multi("text/x-shellscript", "#!/bin/sh\n/etc/eks/bootstrap.sh demo --kubelet-extra-args --v=2",
		"application/node.eks.aws", document("kubelet: {flags: [--v=4]}"), "text/x-shellscript", "#!/bin/sh\necho # /etc/eks\n# /etc/eks/bootstrap.sh")))
	if err != nil || got.Spec.Cluster.Name != "demo" || !reflect.DeepEqual(got.Spec.Kubelet.Flags, []string{"--v=2", "--v=4"}) || len(got.Scripts) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestWhatBootstrapDidButANodeDoesNotNeedIsAWarning(t *testing.T) {
	got, err := nodeconfig.Parse([]byte("#!/bin/sh\n\n/etc/eks/bootstrap.sh demo \\\n --aws-api-retry-attempts 5"))
	if want := []string{"line 3: --aws-api-retry-attempts has no effect here"}; err != nil || !reflect.DeepEqual(got.Warnings, want) {
		t.Errorf("got %q, %v", got.Warnings, err)
	}
}

func TestAScriptThatIsMoreThanACallOfBootstrapIsRefused(t *testing.T) {
	const only = "a script that calls /etc/eks/bootstrap.sh is understood if it does nothing else: "
	for name, test := range map[string]struct{ script, want string }{
		"another command before":  {"yum update -y\n/etc/eks/bootstrap.sh demo", "line 2: " + only + `move "yum" into a text/x-shellscript part of its own`},
		"another command behind":  {"/etc/eks/bootstrap.sh \\\n demo\n\nyum update -y", "line 5: " + only + `move "yum" into a text/x-shellscript part of its own`},
		"a command behind &&":     {"/etc/eks/bootstrap.sh demo && reboot", "line 2: " + only + "'&' is not understood"},
		"a substitution":          {"/etc/eks/bootstrap.sh $(cat /name)", "line 2: " + only + `"$" is not understood but before the name of a variable`},
		"backquotes in quotes":    {"/etc/eks/bootstrap.sh \"`cat /name`\"", "line 2: " + only + "'`' is not understood"},
		"a variable from outside": {"/etc/eks/bootstrap.sh ${CLUSTER}", "line 2: " + only + "the variable CLUSTER is not set in the script"},
		"a variable of two words": {"A='x y'\n/etc/eks/bootstrap.sh $A", "line 3: " + only + "a variable with spaces or wildcards in it stands outside of quotes"},
		"an open quote":           {"/etc/eks/bootstrap.sh 'demo", "line 2: " + only + "a ' without its end"},
		"two calls":               {"/etc/eks/bootstrap.sh demo\n/etc/eks/bootstrap.sh demo", "line 3: /etc/eks/bootstrap.sh is called a second time"},
		"a call by another":       {"bash -x /etc/eks/bootstrap.sh demo", "line 2: " + only + `move "bash" into a text/x-shellscript part of its own`},
		"no call":                 {"set /etc/eks/bootstrap.sh", "line 1: /etc/eks/bootstrap.sh is named but not called"},
		"no cluster":              {"/etc/eks/bootstrap.sh", "line 2: /etc/eks/bootstrap.sh is called without a cluster name"},
		"two clusters":            {"/etc/eks/bootstrap.sh a b", `line 2: /etc/eks/bootstrap.sh takes one cluster name; "b" is another`},
		"an unknown option":       {"/etc/eks/bootstrap.sh a --local-disks raid0", "line 2: --local-disks of /etc/eks/bootstrap.sh is unknown or not supported yet"},
		"an option without value": {"/etc/eks/bootstrap.sh a --apiserver-endpoint", "line 2: --apiserver-endpoint has no value"},
		"docker":                  {"/etc/eks/bootstrap.sh a --container-runtime dockerd", `line 2: --container-runtime: there is containerd only, not "dockerd"`},
		"a name for an address":   {"/etc/eks/bootstrap.sh a --dns-cluster-ip dns", `line 2: --dns-cluster-ip: "dns" is not an IPv4 address`},
		"quotes within quotes":    {`/etc/eks/bootstrap.sh a --kubelet-extra-args "--x='y'"`, "line 2: --kubelet-extra-args: quotes within it are not understood"},
		"a wrong endpoint":        {"set -x\n/etc/eks/bootstrap.sh a \\\n  --apiserver-endpoint http://x", `line 3: spec.cluster.apiServerEndpoint: "http://x" is not an endpoint such as https://host:443`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := nodeconfig.Parse([]byte("#!/bin/bash\n" + test.script + "\n"))
			if err == nil || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}
