package inspect

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const fixtureVersion = "9.8.7-fixture"

var fixtureHash = "roothash=" + strings.Repeat("0a", 32)

// good is a tree that passes every control.
var good = map[string]string{
	"etc/passwd":                       "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:daemon:/:/usr/sbin/nologin\n",
	"etc/group":                        "root:x:0:\ndaemon:x:1:\nshadow:x:42:\n",
	"etc/shadow":                       "root:!*:1:0:99999:7:::\ndaemon:*:1:0:99999:7:::\n",
	"etc/gshadow":                      "root:*::\n",
	"etc/login.defs":                   "UMASK\t\t027\n",
	"etc/machine-id":                   "",
	"etc/chrony/chrony.conf":           "# time\nserver 169.254.169.123 iburst\n",
	"etc/ovenbird/release.json":        `{"kubernetes": "` + fixtureVersion + `", "containerd": "` + fixtureVersion + `", "runc": "` + fixtureVersion + `", "cniPlugins": "` + fixtureVersion + `"}`,
	"usr/bin/ovenbird-agent":           "",
	"usr/lib/sysctl.d/50-a.conf":       "net.ipv4.conf.*.accept_redirects = 0\nnet.ipv4.conf.*.secure_redirects=0\nnet/ipv4/conf/*/send_redirects = 0\n-net.ipv6.conf.*.accept_redirects = 0\n",
	"usr/lib/sysctl.d/90-node.conf":    strings.ReplaceAll(settings(nodeSysctls), ", ", "\n"),
	"usr/lib/systemd/system/a.target":  "",
	"usr/lib/systemd/system/tmp.mount": "[Mount]\nWhat=tmpfs\nOptions=mode=1777,strictatime,nosuid,nodev\n",
	"usr/lib/systemd/system/local-fs.target.wants/tmp.mount":              "",
	"usr/lib/systemd/system/kubelet.service":                              "",
	"usr/lib/systemd/system/containerd.service":                           "",
	"etc/systemd/system/multi-user.target.wants/ovenbird-agent.service":   "",
	"etc/systemd/system/multi-user.target.wants/systemd-networkd.service": "",
	"etc/systemd/system/multi-user.target.wants/chrony.service":           "",
	"etc/systemd/system/sysinit.target.wants/systemd-resolved.service":    "",
	"usr/lib/modules/6.12/kernel/fs/overlayfs/overlay.ko.xz":              "",
	"var/lib/dpkg/status": "Package: systemd\nStatus: install ok installed\n\nPackage: rsync\nStatus: deinstall ok config-files\n",
	"var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/app": "",
}

// rendered is what an agent writes that passes.
var goodRendered = map[string]string{
	"etc/kubernetes/kubelet/config.json": `{"authentication": {"anonymous": {"enabled": false}, "x509": {"clientCAFile": "/ca"}},
		"authorization": {"mode": "Webhook"}, "readOnlyPort": 0, "protectKernelDefaults": true, "rotateCertificates": true,
		"serverTLSBootstrap": true, "podPidsLimit": 1, "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]}`,
	"etc/kubernetes/pki/ca.crt":   "",
	"etc/eks/kubelet/environment": `NODEADM_KUBELET_ARGS="--config=/etc/kubernetes/kubelet/config.json --node-ip=10.0.0.1"`,
	"var/lib/kubelet/kubeconfig":  "",
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// fixture lays out a subject that passes.
func fixture(t *testing.T) Subject {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("files of the tree must belong to root")
	}
	root, rendered := filepath.Join(t.TempDir(), "root"), t.TempDir()
	for name, content := range good {
		write(t, root, name, content)
	}
	for name, content := range goodRendered {
		write(t, rendered, name, content)
	}
	chmod(t, root, "etc/shadow", 0o640)
	chmod(t, root, "etc/gshadow", 0o640)
	chmod(t, rendered, "var/lib/kubelet/kubeconfig", 0o600)
	for dir, mode := range map[string]os.FileMode{"root": 0o700, "tmp": 0o777 | os.ModeSticky} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		chmod(t, root, dir, mode)
	}
	if err := os.Symlink("/dev/null", filepath.Join(root, "etc/systemd/system/getty.service")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("usr/bin", filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	// This test's own program stands for all of them: it is Go's and names the version.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, "usr/bin/kubelet", string(program))
	write(t, root, "opt/cni/bin/.keep", "")
	for _, name := range []string{"usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/runc", "opt/cni/bin/bridge"} {
		if err := os.Link(filepath.Join(root, "usr/bin/kubelet"), filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return Subject{Root: root, CommandLine: fixtureHash + " console=ttyS0", Verity: true, Masked: []string{"getty.service"}, Rendered: rendered}
}

func chmod(t *testing.T, root, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
		t.Fatal(err)
	}
}

func failed(t *testing.T, s Subject) map[string][]string {
	t.Helper()
	results, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, r := range results {
		if r.Outcome == Failed {
			found[r.ID] = r.Found
		}
	}
	return found
}

func TestAGoodTreePasses(t *testing.T) {
	if found := failed(t, fixture(t)); len(found) > 0 {
		t.Errorf("failed: %v", found)
	}
}

const privateKeyPEM = "-----BEGIN EC " + "PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY\n"

// faults are what each control must find, and nothing else may fail by it.
var faults = map[string]struct {
	write map[string]string // in the tree
	agent map[string]string // in what the agent writes
	do    func(t *testing.T, s *Subject)
	found string
}{
	"units-enabled":           {do: remove("etc/systemd/system/multi-user.target.wants/chrony.service"), found: "chrony.service is not enabled"},
	"units-left-to-the-agent": {write: map[string]string{"etc/systemd/system/multi-user.target.wants/kubelet.service": ""}, found: "kubelet.service is wanted by multi-user.target"},
	"units-masked":            {do: func(_ *testing.T, s *Subject) { s.Masked = append(s.Masked, "apt-daily.timer") }, found: "apt-daily.timer is not masked"},
	"one-time-source":         {write: map[string]string{"etc/chrony/chrony.conf": "pool 2.debian.pool.ntp.org\n#server 169.254.169.123\n"}, found: "names no server"},
	"no-ssh-server":           {write: map[string]string{"usr/sbin/sshd": ""}, found: "/usr/sbin/sshd"},
	"no-network-services":     {write: map[string]string{"var/lib/dpkg/status": "Package: rsync\nStatus: install ok installed\n"}, found: "package rsync"},
	"versions":                {write: map[string]string{"etc/ovenbird/release.json": strings.Replace(good["etc/ovenbird/release.json"], fixtureVersion, strings.Repeat("1.", 30), 1)}, found: "/usr/bin/kubelet is not kubernetes"},
	"sysctls-node":            {write: map[string]string{"etc/sysctl.d/99-mine.conf": "vm.overcommit_memory = 0\n"}, found: "vm.overcommit_memory = 0"},
	"sysctls-redirects":       {write: map[string]string{"etc/sysctl.d/50-a.conf": ""}, found: "net.ipv4.conf.*.send_redirects is not set"},
	"sysctls-kernel-defaults": {write: map[string]string{"etc/sysctl.d/99-mine.conf": "kernel.randomize_va_space = 0\n"}, found: "kernel.randomize_va_space = 0"},
	"no-core-dump-collector":  {write: map[string]string{"etc/sysctl.d/99-mine.conf": "kernel.core_pattern = |/collect\n"}, found: "|/collect"},
	"kernel-arguments":        {do: arguments(fixtureHash + " mitigations=off"), found: "mitigations=off"},
	"verified-root":           {do: arguments("root=/dev/sda"), found: "no roothash="},
	"kernel-modules":          {write: map[string]string{"usr/lib/modules/6.12/kernel/drivers/usb_storage.ko.xz": ""}, found: "usb_storage"},
	"no-radio":                {write: map[string]string{"usr/lib/modules/6.12/kernel/drivers/bluetooth/btusb.ko": ""}, found: "/drivers/bluetooth"},
	"separate-tmp":            {write: map[string]string{"usr/lib/systemd/system/tmp.mount": "Options=nosuid\n"}, found: "tmp.mount has no option nodev"},
	"no-world-writable":       {do: mode("var/lib/dpkg/status", 0o666), found: "/var/lib/dpkg/status -rw-rw-rw-"},
	"no-setuid-surprises":     {do: mode("usr/bin/runc", 0o755|os.ModeSetuid), found: "/usr/bin/runc"},
	"no-unowned-files":        {do: owner("var/lib/dpkg/status", 4711, 0), found: "4711:0"},
	"system-files-owner":      {do: owner("etc/chrony/chrony.conf", 1, 0), found: "/etc/chrony/chrony.conf"},
	"account-files":           {do: mode("etc/shadow", 0o644), found: "/etc/shadow -rw-r--r--"},
	"home-of-root":            {do: mode("root", 0o755), found: "/root drwxr-xr-x"},
	"no-passwords":            {write: map[string]string{"etc/shadow": "root:!$y$j9T$abc:1:0:99999:7:::\n"}, found: "/etc/shadow: root"},
	"one-root":                {write: map[string]string{"etc/passwd": good["etc/passwd"] + "joe:x:7:0:::/usr/sbin/nologin\n"}, found: "/etc/passwd: joe"},
	"no-duplicate-ids":        {write: map[string]string{"etc/group": good["etc/group"] + "twin:x:42:\n"}, found: "twin has the id of shadow"},
	"groups-exist":            {write: map[string]string{"etc/passwd": good["etc/passwd"] + "joe:x:7:77:::/usr/sbin/nologin\n"}, found: "the group of joe"},
	"no-legacy-entries":       {write: map[string]string{"etc/gshadow": "+:::\n"}, found: "/etc/gshadow"},
	"no-login-shells":         {write: map[string]string{"etc/passwd": good["etc/passwd"] + "joe:x:7:1:::/bin/sh\n"}, found: "joe has /bin/sh"},
	"umask":                   {write: map[string]string{"etc/login.defs": "#UMASK 027\nUMASK 022\n"}, found: "UMASK 022"},
	"no-ssh-keys":             {write: map[string]string{"root/.ssh/authorized_keys": "ssh-ed25519 AAAA"}, found: "/root/.ssh/authorized_keys"},
	"no-private-keys":         {write: map[string]string{layerDirectories[0][1:] + "1/fs/opt/key": privateKeyPEM}, found: "snapshots/1/fs/opt/key"},
	"no-credentials":          {write: map[string]string{"opt/config": "id = AKIA" + "IOSFODNN7EXAMPLE\n"}, found: "/opt/config"},
	"no-identity":             {write: map[string]string{"etc/machine-id": "0123\n"}, found: "/etc/machine-id"},
	"no-package-caches":       {write: map[string]string{"var/lib/apt/lists/debian_InRelease": ""}, found: "debian_InRelease"},
	"no-traces":               {write: map[string]string{"var/log/dpkg.log": ""}, found: "/var/log/dpkg.log"},
	"no-cron":                 {write: map[string]string{"var/lib/dpkg/status": "Package: cron\nStatus: install ok installed\n"}, found: "package cron"},
	"kubelet-unit-file":       {do: mode("usr/lib/systemd/system/kubelet.service", 0o664), found: "-rw-rw-r--"},
	"kubelet-kubeconfig-file": {do: agentMode("var/lib/kubelet/kubeconfig", 0o644), found: "-rw-r--r--"},
	"kubelet-ca-file":         {do: agentMode("etc/kubernetes/pki/ca.crt", 0o664), found: "-rw-rw-r--"},
	"kubelet-config-file":     {do: agentMode("etc/kubernetes/kubelet/config.json", 0o646), found: "-rw-r--rw-"},

	"kubelet-anonymous":                   {agent: kubelet(`"enabled": false`, `"enabled": true`), found: "authentication.anonymous.enabled: true"},
	"kubelet-authorization":               {agent: kubelet(`"Webhook"`, `"AlwaysAllow"`), found: "AlwaysAllow"},
	"kubelet-client-ca":                   {agent: kubelet(`"/ca"`, `""`), found: "clientCAFile"},
	"kubelet-read-only-port":              {agent: kubelet(`"readOnlyPort": 0`, `"readOnlyPort": 10255`), found: "10255"},
	"kubelet-streaming-timeout":           {agent: kubelet(`{"auth`, `{"streamingConnectionIdleTimeout": "0s", "auth`), found: "0s"},
	"kubelet-kernel-defaults":             {agent: kubelet(`"protectKernelDefaults": true, `, ``), found: "protectKernelDefaults is absent"},
	"kubelet-iptables":                    {agent: kubelet(`{"auth`, `{"makeIPTablesUtilChains": false, "auth`), found: "makeIPTablesUtilChains: false"},
	"kubelet-event-rate":                  {agent: kubelet(`{"auth`, `{"eventRecordQPS": -1, "auth`), found: "-1"},
	"kubelet-rotate-certificates":         {agent: kubelet(`"rotateCertificates": true`, `"rotateCertificates": false`), found: "false"},
	"kubelet-server-certificate":          {agent: kubelet(`"serverTLSBootstrap": true`, `"serverTLSBootstrap": false`), found: "false"},
	"kubelet-server-certificate-rotation": {agent: kubelet(`{"auth`, `{"featureGates": {"RotateKubeletServerCertificate": false}, "auth`), found: "false"},
	"kubelet-ciphers":                     {agent: kubelet(`AES_128_GCM_SHA256`, `AES_128_CBC_SHA`), found: "CBC"},
	"kubelet-pod-pids":                    {agent: kubelet(`"podPidsLimit": 1`, `"podPidsLimit": -1`), found: "-1"},
	"kubelet-flags":                       {agent: map[string]string{"etc/eks/kubelet/environment": `NODEADM_KUBELET_ARGS="--anonymous-auth=true"`}, found: "--anonymous-auth=true"},
}

func remove(name string) func(*testing.T, *Subject) {
	return func(t *testing.T, s *Subject) {
		if err := os.Remove(filepath.Join(s.Root, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func arguments(line string) func(*testing.T, *Subject) {
	return func(_ *testing.T, s *Subject) { s.CommandLine = line }
}

func mode(name string, m os.FileMode) func(*testing.T, *Subject) {
	return func(t *testing.T, s *Subject) { chmod(t, s.Root, name, m) }
}

func agentMode(name string, m os.FileMode) func(*testing.T, *Subject) {
	return func(t *testing.T, s *Subject) { chmod(t, s.Rendered, name, m) }
}

func owner(name string, uid, gid int) func(*testing.T, *Subject) {
	return func(t *testing.T, s *Subject) {
		if err := os.Chown(filepath.Join(s.Root, name), uid, gid); err != nil {
			t.Fatal(err)
		}
	}
}

func kubelet(old, replacement string) map[string]string {
	const name = "etc/kubernetes/kubelet/config.json"
	return map[string]string{name: strings.Replace(goodRendered[name], old, replacement, 1)}
}

func TestEachControlFindsItsFaultAndNoOtherDoes(t *testing.T) {
	for _, c := range controls() {
		if c.find == nil {
			continue
		}
		t.Run(c.id, func(t *testing.T) {
			fault, ok := faults[c.id]
			if !ok {
				t.Fatal("no test makes this control fail")
			}
			s := fixture(t)
			for name, content := range fault.write {
				write(t, s.Root, name, content)
			}
			for name, content := range fault.agent {
				write(t, s.Rendered, name, content)
			}
			if fault.do != nil {
				fault.do(t, &s)
			}
			found := failed(t, s)
			if !strings.Contains(strings.Join(found[c.id], "; "), fault.found) {
				t.Errorf("found %q, want %q", found[c.id], fault.found)
			}
			if others := slices.DeleteFunc(slices.Sorted(maps.Keys(found)), func(id string) bool { return id == c.id }); len(others) > 0 {
				t.Errorf("these failed too: %v", others)
			}
		})
	}
}

func TestNothingGetsPastAControl(t *testing.T) {
	link := func(name, target string) func(*testing.T, *Subject) {
		return func(t *testing.T, s *Subject) {
			if err := os.Symlink(target, filepath.Join(s.Root, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	sysctl := func(line string) func(*testing.T, *Subject) {
		return func(t *testing.T, s *Subject) { write(t, s.Root, "etc/sysctl.d/99-mine.conf", line+"\n") }
	}
	type attempt struct {
		control string
		do      func(*testing.T, *Subject)
		found   string
	}
	attempts := []attempt{
		{"units-enabled", link("etc/systemd/system/chrony.service", "/dev/null"), "chrony.service is masked"},
		{"units-enabled", link("etc/systemd/system/chrony.service", "../../../dev/null"), "chrony.service is masked"},
		{"units-enabled", func(t *testing.T, s *Subject) { write(t, s.Root, "etc/systemd/system/chrony.service", "") }, "chrony.service is masked"},
		{"sysctls-redirects", sysctl("net.ipv4.conf.all.accept_redirects = 1"), "net.ipv4.conf.all.accept_redirects = 1"},
		{"sysctls-redirects", sysctl("net/ipv4/conf/eth0.100/send_redirects = 1"), "net.ipv4.conf.eth0.100.send_redirects = 1"},
		{"sysctls-redirects", sysctl("-net.ipv6.conf.default.accept_redirects"), "net.ipv6.conf.default.accept_redirects = the kernel's own"},
		{"sysctls-kernel-defaults", sysctl("net.ipv4.conf.*.accept_source_route = 1"), "net.ipv4.conf.*.accept_source_route = 1"},
		{"verified-root", arguments("roothash="), "roothash="},
		{"verified-root", arguments("roothash=00"), "roothash=00"},
		{"verified-root", arguments(fixtureHash + " roothash=" + strings.Repeat("0b", 32)), "roothash=" + strings.Repeat("0b", 32)},
	}
	for _, argument := range []string{
		"systemd.debug_shell", "systemd.debug-shell=1", "systemd.debug_shell=yes", "systemd.debug_shell=ttyS0", `systemd.debug_shell="ttyS0"`,
		"systemd.unit=rescue.target", "systemd.unit=emergency.target", "systemd.wants=debug-shell.service", "systemd.run=/bin/sh",
		"emergency", "rescue", "single", "1", "-b", "init=/bin/sh", "rdinit=/bin/sh",
	} {
		attempts = append(attempts, attempt{"kernel-arguments", arguments(fixtureHash + " " + argument), argument})
	}
	for _, a := range attempts {
		t.Run(a.control+" "+a.found, func(t *testing.T) {
			s := fixture(t)
			a.do(t, &s)
			if found := failed(t, s); !slices.Contains(found[a.control], a.found) || len(found) != 1 {
				t.Errorf("found %v, want %q", found, a.found)
			}
		})
	}
}

func TestWhatIsRightPasses(t *testing.T) {
	for name, do := range map[string]func(*testing.T, *Subject){
		"a shell that is turned off": arguments(fixtureHash + " systemd.debug_shell=no systemd.unit=multi-user.target"),
		// As systemd's own 50-default.conf.
		"a default that is left alone": func(t *testing.T, s *Subject) {
			write(t, s.Root, "usr/lib/sysctl.d/40-a.conf", "net.ipv4.conf.*.accept_source_route = 0\n-net.ipv4.conf.all.accept_source_route\n")
		},
		"a setting of one interface": func(t *testing.T, s *Subject) {
			write(t, s.Root, "etc/sysctl.d/99-mine.conf", "net.ipv4.conf.all.accept_redirects = 0\nnet.ipv4.conf.all.rp_filter = 2\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := fixture(t)
			do(t, &s)
			if found := failed(t, s); len(found) > 0 {
				t.Errorf("failed: %v", found)
			}
		})
	}
}

func TestAMachineThatIsNoNodeIsNotHeldAgainstANodesControls(t *testing.T) {
	s := fixture(t)
	remove("usr/bin/kubelet")(t, &s)
	s.Rendered = ""
	results, err := Run(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if strings.HasPrefix(r.ID, "kubelet-") && (r.Outcome != NotApplicable || r.Reason == "") {
			t.Errorf("%s: %s, %q", r.ID, r.Outcome, r.Reason)
		}
	}
}

func TestControlsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range controls() {
		if seen[c.id] || c.id == "" || c.title == "" || (c.find == nil) == (c.inapplicable == "") || c.find != nil && c.want == "" {
			t.Errorf("control %q is not complete or not the only one", c.id)
		}
		seen[c.id] = true
	}
	if Known("cis-debian-audit") || !Known("no-ssh-server") {
		t.Error("exceptions are for controls that can fail")
	}
}

func TestAnExceptionAcceptsAFailureAndNothingElse(t *testing.T) {
	results := []Result{{ID: "a", Outcome: Failed, Title: "A", Found: []string{"x"}, Want: "y"}, {ID: "b", Outcome: Passed}, {ID: "c", Outcome: Failed}}
	judged, unused := Except(results, []Exception{{"a", "because"}, {"b", "in vain"}})
	if judged[0].Outcome != Excepted || judged[0].Reason != "because" || judged[2].Outcome != Failed || results[0].Outcome != Failed {
		t.Errorf("judged %+v", judged)
	}
	if len(unused) != 1 || unused[0].Control != "b" {
		t.Errorf("unused %v", unused)
	}
	if err := Failures(judged); err == nil || !strings.Contains(err.Error(), "fails 1 of its controls") {
		t.Errorf("the error is %v", err)
	}
	if err := Failures(judged[:2]); err != nil {
		t.Errorf("accepted failures are an error: %v", err)
	}
}

func TestTheLargestThingsAreNamedByWhatAPersonCanLeaveOut(t *testing.T) {
	root := t.TempDir()
	for name, size := range map[string]int{
		"usr/bin/tool": 3000, "usr/share/tool/data": 2000, "usr/bin/mine": 4000,
		layerDirectories[0][1:] + "7/fs/bin/app": 6000, layerDirectories[0][1:] + "7/fs/lib/so": 1000, "etc/small": 1,
	} {
		write(t, root, name, strings.Repeat("x", size))
	}
	if err := os.Symlink("usr/bin", filepath.Join(root, "bin")); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(root, "usr/bin/mine"), filepath.Join(root, "usr/bin/mine-too")); err != nil {
		t.Fatal(err)
	}
	write(t, root, "var/lib/dpkg/info/tool:amd64.list", "/.\n/bin/tool\n/usr/share/tool\n/usr/share/tool/data\n/gone\n")
	usage, err := Measure(root, 3)
	want := []Thing{{kindLayer, "7 (with /bin/app)", 7000}, {kindPackage, "tool", 5000}, {kindFile, "/usr/bin/mine", 4000}}
	if err != nil || !slices.Equal(usage.Things, want) {
		t.Errorf("got %v, %v, want %v", usage.Things, err, want)
	}
}

func TestTheReportSaysWhatWasFoundAndWhy(t *testing.T) {
	report := NewReport([]Result{
		{ID: "a", Title: "Is A", Source: "CIS 1", Outcome: Excepted, Found: []string{"x"}, Want: "y", Reason: "because"},
		{ID: "b", Title: "Is B", Outcome: NotApplicable, Reason: "there is no B"},
	}, Usage{Files: 3 << 20, Things: []Thing{{kindPackage, "tool", 2 << 20}}}, Sizes{Disk: 6 << 30, Written: 1 << 20})
	text := report.Text()
	for _, want := range []string{"2 controls: 0 passed, 0 failed, 1 excepted, 1 do not apply", "EXCEPTED  a", "(CIS 1)", "found     x", "want      y", "accepted  because", "there is no B", "6144.0 MiB", "2.0 MiB  package  tool"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
