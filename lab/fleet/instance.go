package fleet

import (
	"net"
	"net/netip"
	"time"
)

// State is where an instance is in its life, as EC2 names it:
//
//	pending -> running ----------> shutting-down -> terminated -> (forgotten)
//	   ^        |    |                   ^
//	   |        v    v                   |
//	   |  stopping  (guest's power-off)  |
//	   |        |    |                   |
//	   |        v    v                   |
//	   +------- stopped -----------------+
//
// A pending instance that cannot start goes to terminated at once, or back to stopped if it
// ran before. A running one whose guest powers off, or whose virtual machine crashes, goes
// to stopped, where its volume and address stay; or to shutting-down if it was launched to
// terminate on shutdown. A reboot leaves it running.
type State string

// States of an instance.
const (
	Pending      State = "pending"
	Running      State = "running"
	Stopping     State = "stopping"
	ShuttingDown State = "shutting-down"
	Terminated   State = "terminated"
	Stopped      State = "stopped"
)

// Reason is why an instance is in its state: a code that EC2 has, and words.
type Reason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Codes of Reason.
const (
	ReasonUserShutdown  = "Client.UserInitiatedShutdown"
	ReasonGuestShutdown = "Client.InstanceInitiatedShutdown"
	ReasonServerError   = "Server.InternalError"
	ReasonSpotTerminate = "Server.SpotInstanceTermination"
	ReasonSpotStop      = "Server.SpotInstanceShutdown"
)

// Order is what RunInstances asks for, checked.
type Order struct {
	Min, Max            int
	ImageID             string
	RootDevice          string // the name that the image gives it
	Type                Type
	SubnetID            string
	Address             netip.Addr   // of the only instance; invalid: any
	Taken               []netip.Addr // addresses that are something else's than an instance's
	ClientToken         string       // empty: none
	Digest              string       // of the whole request, to compare under the same token
	UserData            []byte
	Profile             string // instance profile; empty: none
	Tags                map[string]string
	VolumeGiB           int
	Volume              VolumeKind
	VolumeTags          map[string]string
	InterfaceTags       map[string]string
	SpotTags            map[string]string // of the spot request
	Groups              []Group           // security groups
	EBSOptimized        bool
	Monitoring          bool
	MetadataTags        bool // tags are shown by the metadata service
	TerminateOnShutdown bool
	Spot                string // what an interruption does; empty: on demand
}

// Group is a security group. Its name never changes.
type Group struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// VolumeKind is what an EBS volume is like besides its size. All of it is only recorded: a
// volume of the lab is as fast as the disk that it lies on, and not encrypted there.
type VolumeKind struct {
	Type       string `json:"type,omitempty"`
	IOPS       int    `json:"iops,omitempty"`
	Throughput int    `json:"throughput,omitempty"` // MiB/s
	Encrypted  bool   `json:"encrypted,omitempty"`
	KMSKey     string `json:"kmsKey,omitempty"` // ARN
}

// Instance is one virtual machine and all that EC2 would know about it. Values are
// snapshots; their tags and user-data are never changed.
type Instance struct {
	ID                  string            `json:"id"`
	ReservationID       string            `json:"reservationId"`
	LaunchIndex         int               `json:"launchIndex"`
	ClientToken         string            `json:"clientToken,omitempty"`
	Digest              string            `json:"digest,omitempty"`
	ImageID             string            `json:"imageId"`
	RootDevice          string            `json:"rootDevice,omitempty"`
	Type                string            `json:"type"`
	SubnetID            string            `json:"subnetId"`
	Zone                string            `json:"zone"`
	Address             netip.Addr        `json:"address"`
	MAC                 string            `json:"mac"`
	InterfaceID         string            `json:"interfaceId"`
	AttachmentID        string            `json:"attachmentId"`
	VolumeID            string            `json:"volumeId"`
	VolumeGiB           int               `json:"volumeGiB"`
	Volume              VolumeKind        `json:"volume,omitzero"`
	Volumes             []Volume          `json:"volumes,omitempty"`    // besides the root volume
	Interfaces          []Interface       `json:"interfaces,omitempty"` // besides the first one
	VolumeTags          map[string]string `json:"volumeTags,omitempty"`
	InterfaceTags       map[string]string `json:"interfaceTags,omitempty"`
	SpotTags            map[string]string `json:"spotTags,omitempty"`
	Groups              []Group           `json:"groups,omitempty"`
	EBSOptimized        bool              `json:"ebsOptimized,omitempty"`
	Monitoring          bool              `json:"monitoring,omitempty"`
	Tags                map[string]string `json:"tags,omitempty"`
	UserData            []byte            `json:"userData,omitempty"`
	Profile             string            `json:"profile,omitempty"`
	MetadataTags        bool              `json:"metadataTags,omitempty"`
	TerminateOnShutdown bool              `json:"terminateOnShutdown,omitempty"`
	SkipShutdown        bool              `json:"skipShutdown,omitempty"` // kill it, do not ask its guest
	HasVolume           bool              `json:"hasVolume,omitempty"`    // it ran: a start goes on with its volume
	Rebooting           bool              `json:"rebooting,omitempty"`    // while it is running
	Spot                string            `json:"spot,omitempty"`         // what an interruption does; empty: on demand
	Notices             Notices           `json:"notices,omitzero"`

	State      State     `json:"state"`
	Reason     Reason    `json:"reason"`
	LaunchTime time.Time `json:"launchTime"`
	StartTime  time.Time `json:"startTime,omitzero"` // the last start's after a stop
	StateTime  time.Time `json:"stateTime"`          // since when it is in its state
}

// HasAddress tells whether the instance still holds its address and its name.
func (i Instance) HasAddress() bool { return i.State != Terminated }

// Started is when the instance was started last, which EC2 calls its launch time.
func (i Instance) Started() time.Time {
	if i.StartTime.IsZero() {
		return i.LaunchTime
	}
	return i.StartTime
}

// Device is the name of the root volume.
func (i Instance) Device() string {
	if i.RootDevice == "" {
		return "/dev/xvda"
	}
	return i.RootDevice
}

// HardwareAddr is the MAC address of the instance's first interface.
func (i Instance) HardwareAddr() net.HardwareAddr {
	mac, _ := net.ParseMAC(i.MAC) // written by newInstance
	return mac
}

// tap is the name of the host's end of the instance's first interface: at most 15 characters.
func (i Instance) tap() string { return "tap" + i.ID[len(i.ID)-11:] }

// Change is what Terminate, Stop or Start did to an instance.
type Change struct {
	ID               string
	Previous, Result State
}
