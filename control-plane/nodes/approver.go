package nodes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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

// Approver answers the certificate requests of nodes. All fields are required, but
// LedgerSince.
type Approver struct {
	Instances *Instances
	Entries   Entries
	Ledger    Ledger
	// LedgerSince is when the ledger began. Zero: it has all that was ever issued.
	LedgerSince time.Time
	Roster      *Roster
	Recorder    Recorder
	Pending     Pending
	Log         *zap.Logger
}

// Pending shows how many requests wait for an answer.
type Pending interface {
	// Watch has count called whenever somebody looks, until forget is.
	Watch(cluster string, count func() int) (forget func())
}

// desk is an approver at work for one cluster.
type desk struct {
	Approver
	cluster  registry.Cluster
	client   kubernetes.Interface
	requests listers.CertificateSigningRequestLister
	queue    workqueue.TypedRateLimitingInterface[string]
}

// Run answers every request to the two kubelet signers of one cluster until ctx ends, and
// leaves those to other signers alone. What is pending when it starts is answered too.
func (a Approver) Run(ctx context.Context, c registry.Cluster, client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, resync)
	requests := factory.Certificates().V1().CertificateSigningRequests()
	d := desk{Approver: a, cluster: c, client: client, requests: requests.Lister(), queue: workqueue.NewTypedRateLimitingQueue(newBackoff())}
	defer d.queue.ShutDown()
	enqueue := func(object any) {
		if csr, ok := object.(*certificates.CertificateSigningRequest); ok && (pending(csr) || issued(csr)) {
			d.queue.Add(csr.Name)
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
	defer a.Pending.Watch(c.Name, d.pending)()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for d.next(ctx) {
			}
		})
	}
	<-ctx.Done()
	d.queue.ShutDown()
	wg.Wait()
	return ctx.Err()
}

// pending counts the requests that wait for an answer.
func (d desk) pending() (count int) {
	all, _ := d.requests.List(labels.Everything()) // from memory, which does not fail
	for _, csr := range all {
		if pending(csr) {
			count++
		}
	}
	return count
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

func (d desk) next(ctx context.Context) bool {
	name, shutdown := d.queue.Get()
	if shutdown {
		return false
	}
	defer d.queue.Done(name)
	csr, err := d.requests.Get(name)
	switch {
	case apierrors.IsNotFound(err):
		err = nil
	case err != nil:
	case pending(csr):
		err = d.answer(ctx, csr)
	case issued(csr):
		err = d.note(ctx, csr)
	}
	if err != nil && ctx.Err() == nil {
		d.Log.Warn("certificate request is not dealt with yet", zap.String("cluster", d.cluster.Name), zap.String("request", name),
			zap.Int("retries", d.queue.NumRequeues(name)), zap.Error(err))
		d.queue.AddRateLimited(name)
		return true
	}
	d.queue.Forget(name)
	return true
}

// pending tells whether a request is for this approver and has no answer.
func pending(csr *certificates.CertificateSigningRequest) bool {
	ours := csr.Spec.SignerName == certificates.KubeAPIServerClientKubeletSignerName || csr.Spec.SignerName == certificates.KubeletServingSignerName
	return ours && !hasCondition(csr, certificates.CertificateApproved) && !hasCondition(csr, certificates.CertificateDenied)
}

func hasCondition(csr *certificates.CertificateSigningRequest, kind certificates.RequestConditionType) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(condition certificates.CertificateSigningRequestCondition) bool {
		return condition.Type == kind
	})
}

// answer decides on a request and writes the decision. An error means that there is none.
func (d desk) answer(ctx context.Context, csr *certificates.CertificateSigningRequest) error {
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	holder, err := d.decide(ctx, csr)
	var refusal Refusal
	if err != nil && !errors.As(err, &refusal) {
		return err
	}
	condition := certificates.CertificateSigningRequestCondition{
		Type: certificates.CertificateApproved, Status: core.ConditionTrue, Reason: reasonApproved,
		Message: fmt.Sprintf("instance %s is a node of this cluster and asks in its own name", holder.ID),
	}
	if err != nil {
		condition.Type, condition.Reason, condition.Message = certificates.CertificateDenied, reasonDenied, refusal.Reason
	}
	condition.LastUpdateTime = meta.Now()
	decided := csr.DeepCopy()
	decided.Status.Conditions = append(decided.Status.Conditions, condition)
	_, err = d.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, decided, meta.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the decision: %w", err)
	}
	d.Log.Info("certificate request decided", zap.String("cluster", d.cluster.Name), zap.String("request", csr.Name), zap.String("signer", csr.Spec.SignerName),
		zap.String("requester", csr.Spec.Username), zap.String("decision", string(condition.Type)), zap.String("why", condition.Message))
	d.Recorder.Record(Event{
		Cluster: d.cluster.Name, Action: ActionDecide, Node: strings.TrimPrefix(csr.Spec.Username, userPrefix), Instance: holder.ID,
		Request: csr.Name, Requester: csr.Spec.Username, Signer: csr.Spec.SignerName,
		Approved: condition.Type == certificates.CertificateApproved, Class: refusal.Class, Reason: condition.Message,
	})
	return nil
}

// decide makes every check. A Refusal is for the requester, another error is ours.
func (d desk) decide(ctx context.Context, csr *certificates.CertificateSigningRequest) (holder Instance, err error) {
	request, err := ParseRequest(csr.Spec)
	if err != nil {
		return Instance{}, err
	}
	holder, err = d.judge(ctx, request)
	// What EC2 said seconds ago delays nobody's yes, but a name may have passed on since.
	if refusal := (Refusal{}); errors.As(err, &refusal) && (refusal.Class == ClassHolder || refusal.Class == ClassInstance) &&
		d.Instances.Forget(d.cluster.VPCID, request.NodeName) {
		holder, err = d.judge(ctx, request)
	}
	if err != nil {
		return holder, err
	}
	if err := d.checkBearer(ctx, csr, holder); err != nil {
		return holder, err
	}
	return holder, d.Roster.Vacate(ctx, d.cluster.Name, holder)
}

// judge gathers what Verdict needs, and asks it.
func (d desk) judge(ctx context.Context, request Request) (holder Instance, err error) {
	holders, err := d.Instances.ByName(ctx, d.cluster.VPCID, request.NodeName)
	if err != nil {
		return Instance{}, err
	}
	admitted := false
	if len(holders) == 1 {
		holder = holders[0]
		entry, err := d.Entries.GetAccessEntry(ctx, d.cluster.Name, holder.RoleARN())
		if err != nil && !errors.Is(err, registry.ErrNotFound) {
			return Instance{}, err
		}
		admitted = err == nil && entry.OfNodes()
	}
	return holder, Verdict(request, d.cluster, holders, admitted)
}
