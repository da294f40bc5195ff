package metrics

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
)

// scrape reads the figures as Prometheus does.
func scrape(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	recorder := httptest.NewRecorder()
	m.Handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(recorder.Body)
	if err != nil || recorder.Code != http.StatusOK {
		t.Fatalf("got %d: %v", recorder.Code, err)
	}
	return families
}

// sample returns the one metric of a family that has all the labels' values.
func sample(t *testing.T, families map[string]*dto.MetricFamily, name string, values ...string) *dto.Metric {
	t.Helper()
	for _, metric := range families[name].GetMetric() {
		found := map[string]bool{}
		for _, label := range metric.GetLabel() {
			found[label.GetValue()] = true
		}
		all := true
		for _, value := range values {
			all = all && found[value]
		}
		if all {
			return metric
		}
	}
	t.Fatalf("no %s with %q among %v", name, values, families[name])
	return nil
}

func TestAClusterThatHasGoneLeavesNoSeries(t *testing.T) {
	m := New()
	for _, cluster := range []string{"kitchen", "pantry"} {
		m.Record(nodes.Event{Cluster: cluster, Action: nodes.ActionDecide, Signer: "s", Approved: true})
		m.Record(nodes.Event{Cluster: cluster, Action: nodes.ActionRemove, Class: nodes.ClassTerminated})
	}
	m.Forget("kitchen")
	families := scrape(t, m)
	for _, name := range []string{"ovenbird_certificate_decisions_total", "ovenbird_node_removals_total"} {
		if n := len(families[name].GetMetric()); n != 1 {
			t.Errorf("%s has %d series, want the other cluster's", name, n)
		}
		sample(t, families, name, "pantry")
	}
}

func TestDecisionsRemovalsAndReviewsAreCounted(t *testing.T) {
	m := New()
	denied := nodes.Event{Cluster: "kitchen", Action: nodes.ActionDecide, Signer: "s", Class: nodes.ClassKey, Reason: "whatever a caller makes of it"}
	m.Record(denied)
	m.Record(denied)
	m.Record(nodes.Event{Cluster: "kitchen", Action: nodes.ActionDecide, Signer: "s", Approved: true})
	m.Record(nodes.Event{Cluster: "kitchen", Action: nodes.ActionRemove, Class: nodes.ClassTerminated})
	m.Reviewed(true)
	m.Reviewed(false)
	waiting := 3
	forget := m.Pending().Watch("kitchen", func() int { return waiting })

	families := scrape(t, m)
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"ovenbird_certificate_decisions_total", []string{"kitchen", "s", "denied", nodes.ClassKey}, 2},
		{"ovenbird_certificate_decisions_total", []string{"kitchen", "s", "approved"}, 1},
		{"ovenbird_node_removals_total", []string{"kitchen", nodes.ClassTerminated}, 1},
		{"ovenbird_token_reviews_total", []string{"accepted"}, 1},
		{"ovenbird_token_reviews_total", []string{"refused"}, 1},
	} {
		if got := sample(t, families, tt.name, tt.labels...).GetCounter().GetValue(); got != tt.want {
			t.Errorf("%s %q: got %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	if got := sample(t, families, "ovenbird_certificate_requests_pending", "kitchen").GetGauge().GetValue(); got != 3 {
		t.Errorf("pending: got %v", got)
	}
	forget()
	if left := scrape(t, m)["ovenbird_certificate_requests_pending"]; left != nil {
		t.Errorf("pending requests of a cluster that is gone: %v", left)
	}
}

func TestCallsToEC2AreMeasuredByOperationAndOutcome(t *testing.T) {
	m := New()
	for outcome, answer := range map[string]http.HandlerFunc{
		"ok": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>`))
		},
		"throttled": refusal("RequestLimitExceeded"),
		"refused":   refusal("UnauthorizedOperation"),
		"timeout":   func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		server := httptest.NewServer(answer)
		client := ec2.New(ec2.Options{
			Region: "us-west-2", BaseEndpoint: aws.String(server.URL), RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		}, func(o *ec2.Options) { o.APIOptions = append(o.APIOptions, m.Calls) })
		ctx, cancel := context.WithCancel(t.Context())
		if outcome == "timeout" {
			cancel()
		}
		_, err := client.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
		cancel()
		server.Close()
		if (err == nil) != (outcome == "ok") {
			t.Errorf("%s: %v", outcome, err)
		}
		if n := sample(t, scrape(t, m), "ovenbird_ec2_call_duration_seconds", "DescribeInstances", outcome).GetHistogram().GetSampleCount(); n != 1 {
			t.Errorf("%s: %d calls", outcome, n)
		}
	}
}

func refusal(code string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`<Response><Errors><Error><Code>` + code + `</Code><Message>no</Message></Error></Errors><RequestID>1</RequestID></Response>`))
	}
}
