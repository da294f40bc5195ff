// Package endpoint is which AWS services the lab answers, and over what: the daemon serves
// them on the lab's network, tests in their own process.
package endpoint

import (
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/recorded"
	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/ebs"
	"github.com/ovenbird-dev/ovenbird/lab/ec2"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/logs"
	"github.com/ovenbird-dev/ovenbird/lab/s3"
	"github.com/ovenbird-dev/ovenbird/lab/ssm"
	"github.com/ovenbird-dev/ovenbird/lab/sts"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Options are what the services stand on.
type Options struct {
	Plan      vpc.Plan
	Fleet     ec2.Fleet
	Catalog   *catalog.Catalog
	Inventory *ec2.Inventory // nil: kept in memory only
	Store     *ssm.Store
	Groups    *autoscaling.Groups     // nil: no Auto Scaling
	Stacks    *cloudformation.Stacks  // nil: no CloudFormation; New tells them of the services that they have
	Signals   *cloudformation.Signals // of no stack; nil: none
	IAM       *iam.Store              // nil: no IAM, and no instance profiles
	Logs      *logs.Store             // nil: no CloudWatch Logs
	Recorded  *recorded.Store         // nil: stacks have no resources that are only recorded
	Buckets   *s3.Store               // nil: no S3, and buckets of stacks are only recorded
	Keys      sigv4.Keys
	Now       func() time.Time
	Logger    *zap.Logger
	Faults    *fault.Set      // nil: none
	Seen      func(wire.Call) // told of each verified call, if set
}

// EC2 is Amazon EC2 on these options, for what launches instances by itself too. Its
// inventory must be set for both to have the same.
func (o Options) EC2() ec2.Service {
	inventory := o.Inventory
	if inventory == nil {
		inventory = &ec2.Inventory{}
	}
	presigned := func(r *http.Request, region string) error {
		_, err := sigv4.Verifier{Keys: o.Keys, Region: region, Service: "ec2", Now: o.Now}.Verify(r)
		return err
	}
	return ec2.Service{
		Plan: o.Plan, Fleet: o.Fleet, Catalog: o.Catalog, Inventory: inventory, Profiles: o.profiles(),
		Parameter: o.parameter, Allowed: o.allowed(), Presigned: presigned, Now: o.Now,
	}
}

func (o Options) parameter(region, name string) (string, bool) {
	p, ok := o.Store.Get(region, name)
	return p.Value, ok
}

// New makes the endpoint.
func New(o Options) wire.Endpoint {
	machines := o.EC2()
	e := wire.Endpoint{
		Services: []wire.Service{
			sts.Service{Plan: o.Plan},
			machines,
			ebs.Service{Plan: o.Plan, Catalog: o.Catalog},
			ssm.Service{Plan: o.Plan, Parameters: o.Store, Allowed: o.allowed()},
		},
		Keys: o.Keys, Regions: o.Plan.Regions(), Now: o.Now, Logger: o.Logger, Faults: o.Faults, Seen: o.Seen,
	}
	if o.Groups != nil {
		if o.Groups.Launcher == nil {
			o.Groups.Launcher = ec2.Launcher{Service: machines}
		}
		e.Services = append(e.Services, autoscaling.Service{Plan: o.Plan, Groups: o.Groups})
	}
	if o.IAM != nil {
		e.Services = append(e.Services, iam.Service{Store: o.IAM})
	}
	if o.Buckets != nil {
		e.Services = append(e.Services, s3.Service{Plan: o.Plan, Buckets: o.Buckets, Allowed: o.allowed()})
		if o.Recorded != nil {
			o.Recorded.Buckets = o.Buckets
		}
	}
	if o.Logs != nil {
		e.Services = append(e.Services, logs.Service{Plan: o.Plan, Store: o.Logs, Allowed: o.allowed()})
	}
	if o.Stacks != nil {
		o.Stacks.Types = append(o.Stacks.Types, o.resourceTypes(machines)...)
		o.Stacks.Exists = machines.Exists
		o.Stacks.Parameter = func(name string) (string, bool) { return o.parameter(o.Plan.Region, name) }
		e.Services = append(e.Services, cloudformation.Service{Stacks: o.Stacks, Signals: o.Signals})
	}
	return e
}

// resourceTypes are what stacks can be made of: the types that the services offer.
func (o Options) resourceTypes(machines ec2.Service) []resource.Type {
	types := slices.Concat(machines.ResourceTypes(), ec2.NetworkResourceTypes(machines))
	if o.Groups != nil {
		types = append(types, autoscaling.Service{Plan: o.Plan, Groups: o.Groups}.ResourceTypes()...)
	}
	types = append(types, ssm.Service{Plan: o.Plan, Parameters: o.Store}.ResourceTypes()...)
	if o.IAM != nil {
		types = append(types, o.IAM.ResourceTypes()...)
	}
	if o.Logs != nil {
		types = append(types, logs.Service{Plan: o.Plan, Store: o.Logs}.ResourceTypes()...)
	}
	if o.Recorded != nil {
		types = append(types, o.Recorded.ResourceTypes()...)
	}
	return types
}

func (o Options) allowed() func(caller, action string) bool {
	if o.IAM == nil {
		return nil
	}
	return o.IAM.Allows
}

func (o Options) profiles() func(string) bool {
	if o.IAM == nil {
		return nil
	}
	return o.IAM.HasProfile
}
