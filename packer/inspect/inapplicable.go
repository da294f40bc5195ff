package inspect

// inapplicableControls are requirements of the benchmarks that a node of this kind does
// not meet, or meets in another way, each with the reason.
var inapplicableControls = []control{
	{id: "cis-k8s-proxy-files", title: "Permissions of kube-proxy's kubeconfig", source: "CIS Kubernetes 4.1.3, 4.1.4, 4.3", inapplicable: "kube-proxy is a DaemonSet of the cluster; no file of it is on the node"},
	{id: "cis-k8s-hostname-override", title: "--hostname-override is not set", source: "CIS Kubernetes 4.2.7", inapplicable: "a node's name is that of the instance, which the cluster checks before it signs its certificate"},
	{id: "cis-k8s-serving-files", title: "--tls-cert-file and --tls-private-key-file are set", source: "CIS Kubernetes 4.2.9", inapplicable: "kubelet asks the cluster for its serving certificate (kubelet-server-certificate)"},
	{id: "cis-k8s-seccomp-default", title: "seccompDefault is on", source: "CIS Kubernetes 4.2.14", inapplicable: "as on Amazon's node image, workloads choose; spec.kubelet.config.seccompDefault in a NodeConfig turns it on"},
	{id: "cis-k8s-address-deny", title: "IPAddressDeny= in kubelet's unit", source: "CIS Kubernetes 4.2.15", inapplicable: "security groups decide who reaches kubelet's port; the API server's addresses are not known at the bake"},
	{id: "cis-debian-container-filesystems", title: "overlay and squashfs are unavailable", source: "CIS Debian 12 1.1.1", inapplicable: "containers and their images need them"},
	{id: "cis-debian-mount-options", title: "noexec, nodev and nosuid on /var and its parts", source: "CIS Debian 12 1.1.2", inapplicable: "containers run from /var/lib/containerd; a root that can be written anywhere else there is none of"},
	{id: "cis-debian-updates", title: "Package repositories and updates are configured", source: "CIS Debian 12 1.2", inapplicable: "a node is replaced by one of a newer image, never updated in place"},
	{id: "cis-debian-apparmor", title: "AppArmor is installed and its profiles enforce", source: "CIS Debian 12 1.3.1", inapplicable: "no AppArmor profiles are shipped; containers are confined by namespaces, capabilities and seccomp"},
	{id: "cis-debian-bootloader-password", title: "A password protects the boot loader", source: "CIS Debian 12 1.4.1", inapplicable: "there is no boot loader: firmware starts the kernel image, whose command line is part of it"},
	{id: "cis-debian-ptrace", title: "ptrace is restricted", source: "CIS Debian 12 1.5.2", inapplicable: "debuggers and profilers of pods attach to processes; pods are apart by their process namespaces"},
	{id: "cis-debian-banners", title: "Banners warn who logs in", source: "CIS Debian 12 1.6, 1.7", inapplicable: "nobody can log in: no SSH server, no console, no password, no desktop"},
	{id: "cis-debian-ip-forward", title: "The machine does not forward packets", source: "CIS Debian 12 3.3.1, 3.3.7, 3.3.9", inapplicable: "a node forwards its pods' packets, and takes them by more than one interface (rp_filter, log_martians)"},
	{id: "cis-debian-sctp", title: "SCTP is unavailable", source: "CIS Debian 12 3.2", inapplicable: "Services of Kubernetes may use SCTP"},
	{id: "cis-debian-firewall", title: "A firewall with a default-deny policy", source: "CIS Debian 12 4", inapplicable: "kube-proxy and network policies own the packet filter; security groups guard the instance"},
	{id: "cis-debian-sudo-pam", title: "sudo, PAM and password ages", source: "CIS Debian 12 5.2, 5.3, 5.4.1", inapplicable: "there is no sudo, no password and nobody who logs in"},
	{id: "cis-debian-rsyslog", title: "Logs are sent to a log host", source: "CIS Debian 12 6.1", inapplicable: "the journal keeps the node's logs; a DaemonSet of the cluster ships them"},
	{id: "cis-debian-audit", title: "auditd records what people do", source: "CIS Debian 12 6.2", inapplicable: "nobody logs in; the API server's audit log records what is asked of the node"},
}
