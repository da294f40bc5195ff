// Package advice says what to do about what keeps a machine from being a Ready node. Status,
// console and doctor share its words. Each is a sentence or a few, with the commands to run;
// none holds anything secret.
package advice

import (
	"crypto/x509"
	"errors"
)

// What to do about what is the same on every node.
const (
	Metadata = "The agent reads instance metadata, version 2, at 169.254.169.254. See `ip route get 169.254.169.254` here, " +
		"and with the AWS CLI elsewhere `aws ec2 describe-instances --instance-ids ID --query 'Reservations[].Instances[].MetadataOptions'`: HttpEndpoint must be enabled. " +
		"The hop limit is of no account to the agent, only to pods; a firewall on this machine is."

	UserData = "Mend the instance's user-data, in its launch template as a rule, and start the instance anew. " +
		"`ovenbird-agent config check FILE` tells beforehand whether a node can read it."

	IPv6Address = "A node of a cluster with IPv6 services needs an IPv6 address: `aws ec2 assign-ipv6-addresses --network-interface-id ENI --ipv6-address-count 1`; " +
		"subnets with AssignIpv6AddressOnCreation give one to each instance. The agent goes on asking."

	Image = "The image was not baked to the end, or its /etc/ovenbird has been changed: start the instance from another image."

	Credentials = "The instance needs an instance profile whose role EC2 may assume. See " +
		"`aws ec2 describe-instances --instance-ids ID --query 'Reservations[].Instances[].IamInstanceProfile'`, and docs/iam.md for the role and its trust policy."

	DescribeDenied = "Allow the action eks:DescribeCluster on the cluster to the instance's role, which the error names as a rule; docs/iam.md has the policy. " +
		"Or put spec.cluster's apiServerEndpoint, certificateAuthority and cidr into user-data, which spares the call."

	DescribeUnreachable = "The subnet needs a way to the EKS API: a NAT gateway, or a VPC endpoint for com.amazonaws.REGION.eks whose security group lets this node in. " +
		"Or put spec.cluster's apiServerEndpoint, certificateAuthority and cidr into user-data, which spares the call."

	DescribeTLS = "The endpoint of the EKS API has a certificate that this machine does not trust. Something between may look into TLS; " +
		"an authority of one's own goes into user-data as a part of type application/x-pem-file."

	EKSTrouble = "The EKS API refuses or fails. The agent goes on asking; " +
		"spec.cluster's apiServerEndpoint, certificateAuthority and cidr in user-data spare the call."

	ClusterState = "The cluster must be ACTIVE or UPDATING: `aws eks describe-cluster --name NAME --query cluster.status`. The agent goes on asking."

	ClusterName = "Put spec.cluster.name into user-data, which `ovenbird-agent config check FILE` reads as a node does. Or give the instance a tag that names the cluster, " +
		"and show it its tags: `aws ec2 modify-instance-metadata-options --instance-id ID --instance-metadata-tags enabled`."

	NoCluster = "See that spec.cluster.name in user-data, or the instance's tag, names a cluster of this account and region: `aws eks list-clusters`."

	AccessEntry = "The cluster needs an access entry of type EC2_LINUX for the role of this instance: `aws eks list-access-entries --cluster-name NAME`, `aws eks create-access-entry`. " +
		"A cluster of Ovenbird also wants the tag kubernetes.io/cluster/NAME on the instance and an instance profile that has its role's name, " +
		"and `ovenbird serve`, not this node, needs a way to STS: a NAT gateway, or a VPC endpoint for com.amazonaws.REGION.sts. " +
		"A clock that is minutes wrong looks the same: `chronyc tracking`."

	RequestPending = "Nobody has answered the node's certificate request. See `kubectl get csr` and the log of `ovenbird serve`, which approves what it finds right."

	RequestDenied = "`kubectl describe csr` has the approver's reason. The agent asks anew by itself once that is mended: the instance must run, in the cluster's VPC, with its tag and its profile."

	NotReady = "The API server is there but not ready: look at the control plane."

	Clock = "Set the clock: `chronyc tracking` and `chronyc sources` say whether chrony reaches a time server, `chronyc makestep` steps the clock at once."

	PodNetwork = "The agent writes the configuration of the pod network once kube-controller-manager has given the Node its pod CIDR (`kubectl get node NAME -o jsonpath={.spec.podCIDR}`); " +
		"on Amazon EKS the DaemonSet aws-node does (`kubectl -n kube-system get pods -l k8s-app=aws-node`)."

	Space = "See `du -xh -d 3 /var | sort -h | tail`, and give the instance a larger volume if that is what its pods need; images that nothing runs are removed by kubelet itself."

	Storage = "What is not on the instance-store drives is on the root volume, which may be too small for its pods. See `lsblk`, `cat /proc/mdstat` and `swapon --show`; " +
		"a reboot tries again, and an instance that is stopped and started gets blank drives."

	NodeNotReady = "The Node says itself what it lacks: `kubectl describe node NAME`. Should it not be there at all, or not report, see `journalctl -u kubelet`."

	Agent = "See `journalctl -u ovenbird-agent`."
)

// Unit is about a service, named without its suffix, that does not run.
func Unit(unit string) string {
	return "See `systemctl status " + unit + "` and `journalctl -u " + unit + "`."
}

// Name is about a host name that does not resolve.
func Name(host string) string {
	return "See `resolvectl query " + host + "`. The VPC needs DNS support (enableDnsSupport), and for a private " +
		"endpoint DNS hostnames (enableDnsHostnames) too; the DHCP options set says which name servers are asked."
}

// Connection is about what, such as "the API endpoint", that takes no connections.
func Connection(what string) string {
	return "Nothing answers there, or a security group, network ACL or route is in the way: the cluster's security group must " +
		"let this node in, and the subnet needs a route to " + what + "."
}

// TLS is about err of a handshake with the API server. It tells mistakes apart that look
// alike.
func TLS(err error) string {
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &authority):
		return "What answers there is not this cluster, or spec.cluster.certificateAuthority in user-data is of another one. Compare it with `aws eks describe-cluster --name NAME --query cluster.certificateAuthority.data`."
	case errors.As(err, &name):
		return "The API server's certificate has no such name. Take spec.cluster.apiServerEndpoint from `aws eks describe-cluster --name NAME --query cluster.endpoint`."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "Either this machine's clock is wrong (`ovenbird-agent doctor`, the row clock) or the API server's certificate is over."
	}
	return "The connection ends before the API server has answered. Something between may be cutting it off, such as a firewall that looks into TLS."
}
