// Package endpoint is which AWS services the lab answers, and over what: the daemon serves
// them on the lab's network, tests in their own process.
package endpoint

import (
	"time"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/ebs"
	"github.com/ovenbird-dev/ovenbird/lab/ec2"
	"github.com/ovenbird-dev/ovenbird/lab/fault"
	"github.com/ovenbird-dev/ovenbird/lab/sts"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Options are what the services stand on.
type Options struct {
	Plan     vpc.Plan
	Fleet    ec2.Fleet
	Catalog  *catalog.Catalog
	Profiles []string // instance profiles
	Keys     sigv4.Keys
	Now      func() time.Time
	Logger   *zap.Logger
	Faults   *fault.Set      // nil: none
	Seen     func(wire.Call) // told of each verified call, if set
}

// New makes the endpoint.
func New(o Options) wire.Endpoint {
	return wire.Endpoint{
		Services: []wire.Service{
			sts.Service{Plan: o.Plan},
			ec2.Service{Plan: o.Plan, Fleet: o.Fleet, Catalog: o.Catalog, Profiles: o.Profiles},
			ebs.Service{Plan: o.Plan, Catalog: o.Catalog},
		},
		Keys: o.Keys, Regions: o.Plan.Regions(), Now: o.Now, Logger: o.Logger, Faults: o.Faults, Seen: o.Seen,
	}
}
