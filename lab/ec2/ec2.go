// Package ec2 answers the part of the Amazon EC2 API that a node's life needs, on the
// wire, as strictly as EC2 does. What it does not know it refuses: an action, a filter or
// a parameter that would have no effect is an error, not a silent success.
package ec2

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"time"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Fleet is the instances; fleet.Fleet documents the methods.
type Fleet interface {
	Launch(fleet.Order) ([]fleet.Instance, error)
	Terminate(ids []string, skipShutdown bool) ([]fleet.Change, error)
	Stop(ids []string, skipShutdown bool) ([]fleet.Change, error)
	Start(ids []string) ([]fleet.Change, error)
	Reboot(ids []string) error
	Tag(id string, set map[string]string, remove map[string]*string) error
	Attach(id string, v fleet.Volume) (fleet.Instance, error)
	Detach(id, volume string) error
	RemoveVolume(id string) error
	VolumeDisk(id string) string
	AttachInterface(id string, n fleet.Interface) (fleet.Interface, error)
	DetachInterface(id, eni string) error
	Regroup(id, eni string, groups []fleet.Group) error
	Instances() []fleet.Instance
}

// Service is EC2. It implements wire.Service.
type Service struct {
	Plan    vpc.Plan
	Fleet   Fleet // of the plan's region
	Catalog *catalog.Catalog
	// Inventory is what else there is.
	Inventory *Inventory
	Profiles  func(name string) bool // tells whether there is an instance profile; nil: there are none
	// Parameter finds a parameter of SSM that RunInstances is to take the image from; nil:
	// there are none.
	Parameter func(region, name string) (value string, ok bool)
	// Allowed tells whether the policies of the role that is the caller name an action; nil: the
	// roles of instances may do what nodes need, and nothing else.
	Allowed func(caller, action string) bool
	// Presigned verifies a request that the caller has signed for a region; nil: nothing is
	// verified.
	Presigned func(r *http.Request, region string) error
	Now       func() time.Time // nil: time.Now
}

// Name implements wire.Service.
func (Service) Name() string { return "ec2" }

type action struct {
	do func(Service, *params) (any, error)
	// forRoles tells whether an instance's role may do it: what the managed policy
	// AmazonEKSWorkerNodePolicy allows.
	forRoles bool
}

func find(name string) (action, bool) {
	switch name {
	case "RunInstances":
		return action{do: Service.runInstances}, true
	case "TerminateInstances":
		return action{do: Service.terminateInstances}, true
	case "StopInstances":
		return action{do: Service.stopInstances}, true
	case "StartInstances":
		return action{do: Service.startInstances}, true
	case "RebootInstances":
		return action{do: Service.rebootInstances}, true
	case "DescribeInstances":
		return action{Service.describeInstances, true}, true
	case "DescribeInstanceTypes":
		return action{Service.describeInstanceTypes, true}, true
	case "DescribeSubnets":
		return action{Service.describeSubnets, true}, true
	case "DescribeVpcs":
		return action{Service.describeVPCs, true}, true
	}
	for _, group := range []func(string) func(Service, *params) (any, error){publishing, templating, grouping, storing, interfacing} {
		if do := group(name); do != nil {
			return action{do: do}, true
		}
	}
	if do := networking(name); do != nil {
		return action{do: do}, true
	}
	return action{}, false
}

// publishing are the actions on snapshots and images. No instance's role has them.
func publishing(name string) func(Service, *params) (any, error) {
	switch name {
	case "DescribeSnapshots":
		return Service.describeSnapshots
	case "CreateSnapshot":
		return Service.createSnapshot
	case "DeleteSnapshot":
		return Service.deleteSnapshot
	case "CreateTags":
		return Service.createTags
	case "DeleteTags":
		return Service.deleteTags
	case "RegisterImage":
		return Service.registerImage
	case "DescribeImages":
		return Service.describeImages
	case "DeregisterImage":
		return Service.deregisterImage
	case "DescribeRegions":
		return Service.describeRegions
	case "CopyImage":
		return Service.copyImage
	case "CopySnapshot":
		return Service.copySnapshot
	case "ModifyImageAttribute":
		return Service.modifyImageAttribute
	case "ModifySnapshotAttribute":
		return Service.modifySnapshotAttribute
	case "DescribeSnapshotAttribute":
		return Service.describeSnapshotAttribute
	case "DescribeImageAttribute":
		return Service.describeImageAttribute
	case "EnableImageDeprecation":
		return Service.enableImageDeprecation
	case "DisableImageDeprecation":
		return Service.disableImageDeprecation
	case "GetImageBlockPublicAccessState":
		return Service.getImageBlock
	case "EnableImageBlockPublicAccess":
		return Service.enableImageBlock
	case "DisableImageBlockPublicAccess":
		return Service.disableImageBlock
	case "GetEbsEncryptionByDefault":
		return Service.getEncryptionByDefault
	case "DescribeTags":
		return Service.describeTags
	}
	return nil
}

// templating are the actions on launch templates.
func templating(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateLaunchTemplate":
		return Service.createLaunchTemplate
	case "CreateLaunchTemplateVersion":
		return Service.createLaunchTemplateVersion
	case "DescribeLaunchTemplates":
		return Service.describeLaunchTemplates
	case "DescribeLaunchTemplateVersions":
		return Service.describeLaunchTemplateVersions
	case "ModifyLaunchTemplate":
		return Service.modifyLaunchTemplate
	case "DeleteLaunchTemplate":
		return Service.deleteLaunchTemplate
	case "DeleteLaunchTemplateVersions":
		return Service.deleteLaunchTemplateVersions
	}
	return nil
}

// grouping are the actions on security groups.
func grouping(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateSecurityGroup":
		return Service.createSecurityGroup
	case "DescribeSecurityGroups":
		return Service.describeSecurityGroups
	case "DeleteSecurityGroup":
		return Service.deleteSecurityGroup
	case "AuthorizeSecurityGroupIngress":
		return Service.authorizeIngress
	case "AuthorizeSecurityGroupEgress":
		return Service.authorizeEgress
	case "RevokeSecurityGroupIngress":
		return Service.revokeIngress
	case "RevokeSecurityGroupEgress":
		return Service.revokeEgress
	case "DescribeSecurityGroupRules":
		return Service.describeSecurityGroupRules
	}
	return nil
}

// storing are the actions on volumes and on Elastic IP addresses.
func storing(name string) func(Service, *params) (any, error) {
	switch name {
	case "CreateVolume":
		return Service.createVolume
	case "DescribeVolumes":
		return Service.describeVolumes
	case "AttachVolume":
		return Service.attachVolume
	case "DetachVolume":
		return Service.detachVolume
	case "DeleteVolume":
		return Service.deleteVolume
	case "AllocateAddress":
		return Service.allocateAddress
	case "AssociateAddress":
		return Service.associateAddress
	case "DisassociateAddress":
		return Service.disassociateAddress
	case "ReleaseAddress":
		return Service.releaseAddress
	case "DescribeAddresses":
		return Service.describeAddresses
	}
	return nil
}

// nowhere is the fleet of a region without a VPC.
type nowhere struct{}

func (nowhere) Launch(fleet.Order) ([]fleet.Instance, error) { return nil, errors.New("no VPC") }
func (nowhere) Instances() []fleet.Instance                  { return nil }
func (nowhere) Terminate(ids []string, _ bool) ([]fleet.Change, error) {
	return nil, &fleet.NotFoundError{IDs: ids}
}
func (nowhere) Stop(ids []string, _ bool) ([]fleet.Change, error) {
	return nil, &fleet.NotFoundError{IDs: ids}
}
func (nowhere) Start(ids []string) ([]fleet.Change, error) {
	return nil, &fleet.NotFoundError{IDs: ids}
}
func (nowhere) Reboot(ids []string) error { return &fleet.NotFoundError{IDs: ids} }
func (nowhere) Attach(id string, _ fleet.Volume) (fleet.Instance, error) {
	return fleet.Instance{}, &fleet.NotFoundError{IDs: []string{id}}
}
func (nowhere) Detach(id, _ string) error { return &fleet.NotFoundError{IDs: []string{id}} }
func (nowhere) RemoveVolume(string) error { return nil }
func (nowhere) VolumeDisk(string) string  { return "" }
func (nowhere) AttachInterface(id string, _ fleet.Interface) (fleet.Interface, error) {
	return fleet.Interface{}, &fleet.NotFoundError{IDs: []string{id}}
}
func (nowhere) DetachInterface(id, _ string) error { return &fleet.NotFoundError{IDs: []string{id}} }
func (nowhere) Regroup(id, _ string, _ []fleet.Group) error {
	return &fleet.NotFoundError{IDs: []string{id}}
}
func (nowhere) Tag(id string, _ map[string]string, _ map[string]*string) error {
	return &fleet.NotFoundError{IDs: []string{id}}
}

// in is the service in one of the account's regions.
func (s Service) in(region string) Service {
	if region != s.Plan.Region {
		s.Plan, s.Fleet = s.Plan.In(region), nowhere{}
	}
	return s
}

// Knows implements wire.Service.
func (Service) Knows(name string) bool {
	_, ok := find(name)
	return ok
}

// Do implements wire.Service.
func (s Service) Do(_ context.Context, call wire.Call) (any, error) {
	a, ok := find(call.Action)
	if !ok {
		return nil, invalid("InvalidAction", "The action %s is not valid for this web service.", call.Action)
	}
	if !a.forRoles && call.ByRole() && (s.Allowed == nil || !s.Allowed(call.Caller.ARN, "ec2:"+call.Action)) {
		return nil, &wire.Error{Status: http.StatusForbidden, Code: "UnauthorizedOperation", Message: "You are not authorized to perform this operation. User: " +
			call.Caller.ARN + " is not authorized to perform: ec2:" + call.Action}
	}
	p := newParams(call)
	if p.values.Get("DryRun") == "true" {
		return nil, &wire.Error{Status: http.StatusPreconditionFailed, Code: "DryRunOperation",
			Message: "Request would have succeeded, but DryRun flag is set."}
	}
	return a.do(s.in(call.Region), p)
}

type failure struct {
	XMLName   xml.Name `xml:"Response"`
	Code      string   `xml:"Errors>Error>Code"`
	Message   string   `xml:"Errors>Error>Message"`
	RequestID string   `xml:"RequestID"`
}

// Write implements wire.Service.
func (s Service) Write(w http.ResponseWriter, _ *http.Request, id string, value any, err error) {
	status := http.StatusOK
	if err != nil {
		f := failure{RequestID: id}
		f.Code, f.Message, status = explain(err)
		value = f
	}
	body, err := xml.Marshal(value)
	if err != nil {
		http.Error(w, "cannot encode the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(xml.Header))
	_, _ = w.Write(body)
}

// explain turns an error into what EC2 would send.
func explain(err error) (code, message string, status int) {
	var refused *sigv4.Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case sigv4.CodeUnknownKey, sigv4.CodeMismatch:
			return "AuthFailure", "AWS was not able to validate the provided access credentials", http.StatusUnauthorized
		case sigv4.CodeExpired, sigv4.CodeExpiredToken:
			return "RequestExpired", "Request has expired.", http.StatusBadRequest
		case sigv4.CodeMissingToken:
			return refused.Code, refused.Message, http.StatusForbidden
		}
		return refused.Code, refused.Message, http.StatusBadRequest
	}
	var told *wire.Error
	switch {
	case errors.As(err, &told):
		return told.Code, told.Message, told.Status
	case errors.Is(err, wire.ErrThrottled):
		return "RequestLimitExceeded", "Request limit exceeded.", http.StatusServiceUnavailable
	case errors.Is(err, wire.ErrExhausted):
		return "ResourceCountExceeded", "The number of resources of this kind has reached its limit.", http.StatusBadRequest
	case errors.Is(err, wire.ErrDenied):
		return "UnauthorizedOperation", "You are not authorized to perform this operation.", http.StatusForbidden
	}
	return "InternalError", "An internal error has occurred", http.StatusInternalServerError
}
