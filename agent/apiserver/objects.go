package apiserver

import "time"

// The objects of the API, with what the agent reads or writes of them. The types of k8s.io/api
// have all there is; their tables alone are a third of the time and the memory of a start.

// Node is a Node (v1).
type Node struct {
	Meta   `json:"metadata"`
	Spec   NodeSpec   `json:"spec"`
	Status NodeStatus `json:"status"`
}

// NodeSpec is what the cluster has decided about a Node.
type NodeSpec struct {
	PodCIDR       string   `json:"podCIDR"`  // the first of PodCIDRs
	PodCIDRs      []string `json:"podCIDRs"` // "10.244.1.0/24"
	Unschedulable bool     `json:"unschedulable"`
}

// NodeStatus is what kubelet, and whoever keeps conditions, have said about a Node.
type NodeStatus struct {
	Conditions []Condition `json:"conditions"`
	NodeInfo   struct {
		BootID string `json:"bootID"`
	} `json:"nodeInfo"`
}

// Condition is a NodeCondition (v1).
type Condition struct {
	Type               string    `json:"type"`
	Status             string    `json:"status"` // True, False or Unknown
	LastHeartbeatTime  time.Time `json:"lastHeartbeatTime,omitzero"`
	LastTransitionTime time.Time `json:"lastTransitionTime,omitzero"`
	Reason             string    `json:"reason,omitempty"`
	Message            string    `json:"message,omitempty"`
}

// The status of a Condition.
const (
	True  = "True"
	False = "False"
)

// ReadyCondition is the Type of kubelet's Condition that says whether pods can run on the Node.
const ReadyCondition = "Ready"

// Ready tells whether pods can run on the Node.
func (n *Node) Ready() bool {
	for _, condition := range n.Status.Conditions {
		if condition.Type == ReadyCondition {
			return condition.Status == True
		}
	}
	return false
}

// Pod is a Pod (v1).
type Pod struct {
	Meta   `json:"metadata"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

// The phases of a Pod that has ended.
const (
	PodSucceeded = "Succeeded"
	PodFailed    = "Failed"
)

// MirrorAnnotation is on a Pod that stands for a static one of kubelet's own.
const MirrorAnnotation = "kubernetes.io/config.mirror"

// Meta is an object's ObjectMeta (meta/v1).
type Meta struct {
	Namespace         string            `json:"namespace"`
	Name              string            `json:"name"`
	UID               string            `json:"uid"`
	ResourceVersion   string            `json:"resourceVersion"`
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp time.Time         `json:"deletionTimestamp"` // zero: it is not on its way out
	OwnerReferences   []Owner           `json:"ownerReferences"`
}

// Owner is an OwnerReference (meta/v1).
type Owner struct {
	Kind       string `json:"kind"`
	Controller bool   `json:"controller"` // at most one owner is
}

// certificateRequest is a CertificateSigningRequest (certificates.k8s.io/v1).
type certificateRequest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Request    []byte   `json:"request"` // PEM
		SignerName string   `json:"signerName"`
		Usages     []string `json:"usages"`
	} `json:"spec"`
	Status struct {
		Conditions  []Condition `json:"conditions"`
		Certificate []byte      `json:"certificate"` // PEM
	} `json:"status,omitzero"`
}
