package nodes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/certificates/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

const (
	// workers decide at once; a decision is one EC2 call and one write.
	workers = 4
	// decisionTimeout bounds one decision.
	decisionTimeout = 20 * time.Second
	// Retries of a request that could not be decided.
	firstRetry = 500 * time.Millisecond
	lastRetry  = 30 * time.Second
	// resync looks at every request again, in case one fell through.
	resync = 5 * time.Minute

	// Reasons in a request's conditions.
	reasonApproved = "OvenbirdInstanceVerified"
	reasonDenied   = "OvenbirdInstanceRefused"
)

// Entries finds the access entry of a principal; *registry.Registry does.
type Entries interface {
	GetAccessEntry(ctx context.Context, cluster, principalARN string) (registry.AccessEntry, error)
}

// Approver answers the certificate requests of nodes. All fields are required.
type Approver struct {
	Instances *Instances
	Entries   Entries
	Log       *zap.Logger
}

// Run answers every request to the two kubelet signers of one cluster until ctx ends, and
// leaves those to other signers alone. What is pending when it starts is answered too.
func (a Approver) Run(ctx context.Context, c registry.Cluster, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, resync)
	requests := factory.Certificates().V1().CertificateSigningRequests()
	queue := workqueue.NewTypedRateLimitingQueue(newBackoff())
	defer queue.ShutDown()
	enqueue := func(object any) {
		if csr, ok := object.(*certificates.CertificateSigningRequest); ok && pending(csr) {
			queue.Add(csr.Name)
		}
	}
	if _, err := requests.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    enqueue,
		UpdateFunc: func(_, object any) { enqueue(object) },
	}); err != nil {
		return fmt.Errorf("watch certificate requests of cluster %s: %w", c.Name, err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), requests.Informer().HasSynced) {
		return ctx.Err()
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for a.next(ctx, c, client, requests.Lister(), queue) {
			}
		})
	}
	<-ctx.Done()
	queue.ShutDown()
	wg.Wait()
	return ctx.Err()
}

// newBackoff doubles from firstRetry to lastRetry, with jitter so that the requests that
// one failure held up do not all come back at once.
func newBackoff() workqueue.TypedRateLimiter[string] {
	return jittered{workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)}
}

type jittered struct {
	workqueue.TypedRateLimiter[string]
}

func (j jittered) When(item string) time.Duration {
	pause := j.TypedRateLimiter.When(item)
	return pause/2 + rand.N(pause/2+1)
}

func (a Approver) next(ctx context.Context, c registry.Cluster, client kubernetes.Interface, lister listers.CertificateSigningRequestLister, queue workqueue.TypedRateLimitingInterface[string]) bool {
	name, shutdown := queue.Get()
	if shutdown {
		return false
	}
	defer queue.Done(name)
	csr, err := lister.Get(name)
	if apierrors.IsNotFound(err) || err == nil && !pending(csr) {
		queue.Forget(name)
		return true
	}
	if err == nil {
		err = a.answer(ctx, c, client, csr)
	}
	if err != nil && ctx.Err() == nil {
		a.Log.Warn("certificate request is not decided yet", zap.String("cluster", c.Name), zap.String("request", name),
			zap.Int("retries", queue.NumRequeues(name)), zap.Error(err))
		queue.AddRateLimited(name)
		return true
	}
	queue.Forget(name)
	return true
}

// pending tells whether a request is for this approver and has no answer.
func pending(csr *certificates.CertificateSigningRequest) bool {
	ours := csr.Spec.SignerName == certificates.KubeAPIServerClientKubeletSignerName || csr.Spec.SignerName == certificates.KubeletServingSignerName
	return ours && !slices.ContainsFunc(csr.Status.Conditions, func(condition certificates.CertificateSigningRequestCondition) bool {
		return condition.Type == certificates.CertificateApproved || condition.Type == certificates.CertificateDenied
	})
}

// answer decides on a request and writes the decision. An error means that there is none.
func (a Approver) answer(ctx context.Context, c registry.Cluster, client kubernetes.Interface, csr *certificates.CertificateSigningRequest) error {
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	holder, denial, err := a.decide(ctx, c, csr.Spec)
	if err != nil {
		return err
	}
	condition := certificates.CertificateSigningRequestCondition{
		Type: certificates.CertificateApproved, Status: core.ConditionTrue, Reason: reasonApproved,
		Message: fmt.Sprintf("instance %s is a node of this cluster and asks in its own name", holder.ID),
	}
	if denial != nil {
		condition.Type, condition.Reason, condition.Message = certificates.CertificateDenied, reasonDenied, denial.Error()
	}
	condition.LastUpdateTime = meta.Now()
	decided := csr.DeepCopy()
	decided.Status.Conditions = append(decided.Status.Conditions, condition)
	_, err = client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, decided, meta.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the decision: %w", err)
	}
	a.Log.Info("certificate request decided", zap.String("cluster", c.Name), zap.String("request", csr.Name), zap.String("signer", csr.Spec.SignerName),
		zap.String("requester", csr.Spec.Username), zap.String("decision", string(condition.Type)), zap.String("why", condition.Message))
	return nil
}

// decide gathers what Verdict needs. The denial is for the requester, the error is ours.
func (a Approver) decide(ctx context.Context, c registry.Cluster, spec certificates.CertificateSigningRequestSpec) (holder Instance, denial, err error) {
	request, denial := ParseRequest(spec)
	if denial != nil {
		return Instance{}, denial, nil
	}
	holders, err := a.Instances.ByName(ctx, c.VPCID, request.NodeName)
	if err != nil {
		return Instance{}, nil, err
	}
	admitted := false
	if len(holders) == 1 {
		holder = holders[0]
		entry, err := a.Entries.GetAccessEntry(ctx, c.Name, holder.RoleARN())
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return Instance{}, nil, err
		}
		admitted = err == nil && entry.OfNodes()
	}
	return holder, Verdict(request, c, holders, admitted), nil
}
