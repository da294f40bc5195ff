// Package metrics counts what the service does for nodes, for Prometheus. Every name begins
// with ovenbird_. Labels hold values from short lists only: nothing that a caller chooses.
package metrics

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
)

// Metrics are the figures of one service.
type Metrics struct {
	registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	removals  *prometheus.CounterVec
	reviews   *prometheus.CounterVec
	calls     *prometheus.HistogramVec
	pending   *pending
}

// New returns figures that are all zero.
func New() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ovenbird_certificate_decisions_total", Help: "Decisions on certificate requests of nodes, with the class of the reason for a refusal.",
		}, []string{"cluster", "signer", "decision", "reason"}),
		removals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ovenbird_node_removals_total", Help: "Nodes that were removed because their instance is gone.",
		}, []string{"cluster", "reason"}),
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ovenbird_token_reviews_total", Help: "Answers to API servers that asked about a bearer token.",
		}, []string{"outcome"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ovenbird_ec2_call_duration_seconds", Help: "Calls to EC2, the SDK's own retries included.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
		}, []string{"operation", "outcome"}),
		pending: &pending{
			description: prometheus.NewDesc("ovenbird_certificate_requests_pending", "Certificate requests of nodes that wait for an answer.", []string{"cluster"}, nil),
		},
	}
	m.registry.MustRegister(m.decisions, m.removals, m.reviews, m.calls, m.pending,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers GET /metrics.
func (m *Metrics) Handler() http.Handler {
	routes := http.NewServeMux()
	routes.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return routes
}

// Record counts a decision about a node.
func (m *Metrics) Record(e nodes.Event) {
	switch e.Action {
	case nodes.ActionDecide:
		decision := "denied"
		if e.Approved {
			decision = "approved"
		}
		m.decisions.WithLabelValues(e.Cluster, e.Signer, decision, e.Class).Inc()
	case nodes.ActionRemove:
		m.removals.WithLabelValues(e.Cluster, e.Class).Inc()
	}
}

// Forget ends the series of a cluster that has gone.
func (m *Metrics) Forget(cluster string) {
	gone := prometheus.Labels{"cluster": cluster}
	m.decisions.DeletePartialMatch(gone)
	m.removals.DeletePartialMatch(gone)
}

// Reviewed counts an answer about a bearer token.
func (m *Metrics) Reviewed(accepted bool) {
	outcome := "refused"
	if accepted {
		outcome = "accepted"
	}
	m.reviews.WithLabelValues(outcome).Inc()
}

// called counts a call to EC2 that began at start.
func (m *Metrics) called(operation, outcome string, start time.Time) {
	m.calls.WithLabelValues(operation, outcome).Observe(time.Since(start).Seconds())
}

// Pending is where approvers show how many requests wait.
func (m *Metrics) Pending() nodes.Pending { return m.pending }

// pending asks each cluster's approver when it is collected.
type pending struct {
	description *prometheus.Desc
	mu          sync.Mutex
	clusters    []queue
}

type queue struct {
	cluster string
	count   func() int
}

func (p *pending) Watch(cluster string, count func() int) (forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clusters = append(p.clusters, queue{cluster, count})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.clusters = slices.DeleteFunc(p.clusters, func(q queue) bool { return q.cluster == cluster })
	}
}

func (p *pending) Describe(to chan<- *prometheus.Desc) { to <- p.description }

func (p *pending) Collect(to chan<- prometheus.Metric) {
	p.mu.Lock()
	clusters := slices.Clone(p.clusters)
	p.mu.Unlock()
	for _, q := range clusters {
		to <- prometheus.MustNewConstMetric(p.description, prometheus.GaugeValue, float64(q.count()), q.cluster)
	}
}
