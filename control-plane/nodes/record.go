package nodes

// Actions of the service on a cluster's nodes.
const (
	ActionDecide = "DecideNodeCertificate"
	ActionRemove = "RemoveNode"
)

// Event is something that the service has done about a node, and why.
type Event struct {
	Cluster  string
	Action   string
	Node     string // the Node's name; empty in a request that does not tell
	Instance string // the instance ID, where one is known

	Request   string // the CertificateSigningRequest's name
	Requester string // its user name
	Signer    string
	Approved  bool

	Class  string // of the reason: a refusal's, or why a Node went
	Reason string // for people
}

// Recorder keeps events, in an audit log or as figures. It must not block.
type Recorder interface {
	Record(Event)
}
