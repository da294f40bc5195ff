// Package eks answers the Amazon EKS REST API, so that the AWS CLI, the SDKs and what is
// built on them drive Ovenbird clusters unmodified. It checks who calls and what they ask
// for, and writes intent into the registry.
//
// It never makes or removes a cluster itself, and it never answers a caller who has not
// proved who it is or whom no policy allows the call.
package eks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/partition"
)

const (
	// MaxBody bounds a request, in bytes; the largest sensible CreateCluster is a few KiB.
	MaxBody = 256 << 10
	// callTimeout bounds the answer to one request, calls to EC2 and etcd included.
	callTimeout = 30 * time.Second
	// platformVersion is that of every cluster; it counts what Ovenbird itself changes.
	platformVersion = "eks.1"
)

// EC2 says where subnets are; *ec2.Client is one.
type EC2 interface {
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
	DescribeVpcs(context.Context, *ec2.DescribeVpcsInput, ...func(*ec2.Options)) (*ec2.DescribeVpcsOutput, error)
}

// Options are what the API needs. All are required but Patch and Now.
type Options struct {
	Registry  *registry.Registry
	EC2       EC2
	Callers   Callers
	Access    Access
	Audit     Audit
	Region    string
	AccountID string
	Versions  []string // Kubernetes minors on offer, "1.37"; the last is the default
	// Patch returns the patch that a new cluster of a minor gets, "1.37.2"; nil: nobody is told.
	Patch   func(minor string) (string, error)
	PodCIDR netip.Prefix // of every cluster
	Log     *zap.Logger
	Now     func() time.Time // nil: time.Now
}

type api struct {
	Options
}

// New returns the API as a handler.
func New(o Options) (http.Handler, error) {
	if o.Registry == nil || o.EC2 == nil || o.Log == nil {
		return nil, errors.New("EKS API: registry, EC2 client and logger are required")
	}
	if o.Callers == nil || o.Access == nil || o.Audit == nil {
		return nil, errors.New("EKS API: callers, access and audit record are required")
	}
	if o.Region == "" || o.AccountID == "" || len(o.Versions) == 0 || !o.PodCIDR.IsValid() {
		return nil, errors.New("EKS API: region, account, versions and pod CIDR are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &api{Options: o}
	return a.authenticate(a.routes()), nil
}

// operation answers one API call with a value to encode, or with an *apiError.
type operation func(ctx context.Context, r *http.Request) (any, error)

func (a *api) answer(w http.ResponseWriter, r *http.Request, handle operation) {
	value, err := handle(r.Context(), r)
	if err != nil {
		a.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, value)
}

// fail writes err as EKS does. What is not an *apiError is ours: logged, not told.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	var known *apiError
	if !errors.As(err, &known) {
		known = &apiError{status: http.StatusInternalServerError, kind: "ServerException",
			Message: "The service could not complete the request. Try again; its log says more."}
	}
	// The audit record counts throttled calls: the log must not grow with them.
	if known.status != http.StatusTooManyRequests {
		log := a.Log.With(zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.String("caller", caller(r.Context())),
			zap.String("requestID", w.Header().Get("X-Amzn-Requestid")), zap.String("answer", known.kind), zap.Error(err))
		if known.status >= 500 {
			log.Error("request failed")
		} else {
			log.Info("request refused")
		}
	}
	w.Header().Set("X-Amzn-Errortype", known.kind)
	writeJSON(w, known.status, known)
}

func (a *api) arn(resource string) string {
	return fmt.Sprintf("arn:%s:eks:%s:%s:%s", partition.Of(a.Region).Name, a.Region, a.AccountID, resource)
}
