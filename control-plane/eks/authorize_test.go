package eks

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"go.uber.org/zap/zaptest"

	"github.com/ovenbird-dev/ovenbird/control-plane/audit"
	"github.com/ovenbird-dev/ovenbird/control-plane/iam"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// closed is a site where everybody is known and nobody may do anything.
type closed struct {
	EC2
	asked  iam.Request
	events int
}

func (*closed) Authenticate(*http.Request) (iam.Caller, error) {
	return iam.Caller{Principal: iam.NewPrincipal(ststoken.Identity{ARN: "arn:aws:iam::111122223333:user/jane"})}, nil
}

func (c *closed) Authorize(_ context.Context, who iam.Caller, r iam.Request) error {
	c.asked = r
	return &iam.Denied{Principal: who.ARN, Request: r}
}

func (c *closed) Record(audit.Event) { c.events++ }

func (c *closed) DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error) {
	panic("EC2 was asked")
}

// call sends a request to an API whose registry nobody may reach.
func (c *closed) call(t *testing.T, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	handler, err := New(Options{
		Registry: registry.New(nil), EC2: c, Callers: c, Access: c, Audit: c, Region: "us-west-2", AccountID: "111122223333",
		Versions: []string{"1.37"}, PodCIDR: netip.MustParsePrefix("10.244.0.0/16"), Log: zaptest.NewLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	return recorder
}

func TestNoOperationIsDoneWithoutLeave(t *testing.T) {
	wildcard := regexp.MustCompile(`\{[a-z]+\}`)
	for _, o := range operations() {
		c := &closed{}
		answer := c.call(t, o.method, wildcard.ReplaceAllString(o.path, "x"), "{}")
		if answer.Code != http.StatusForbidden || answer.Header().Get("X-Amzn-Errortype") != "AccessDeniedException" || c.asked.Operation != "eks:"+o.name {
			t.Errorf("%s: %d %s, asked for %+v", o.name, answer.Code, answer.Body, c.asked)
		}
		if c.events != 1 {
			t.Errorf("%s: %d audit events", o.name, c.events)
		}
	}
}

func TestACallIsAboutTheResourceThatAWSNames(t *testing.T) {
	const ours = "arn:aws:eks:us-west-2:111122223333:"
	role := url.PathEscape("arn:aws:iam::111122223333:role/team/node")
	for _, tt := range []struct{ method, path, body, cluster, resource string }{
		{"GET", "/clusters", "", "", "*"},
		{"POST", "/clusters", `{"name":"blue"}`, "blue", ours + "cluster/blue"},
		{"POST", "/clusters", `{"name":"green","Name":"blue"}`, "blue", ours + "cluster/blue"}, // as the operation reads it
		{"POST", "/clusters", `{"name":"*"}`, "", "*"},
		{"POST", "/clusters", `not JSON`, "", "*"},
		{"DELETE", "/clusters/blue", "", "blue", ours + "cluster/blue"},
		{"DELETE", "/clusters/blue%2F", "", "", "*"},
		{"GET", "/clusters/blue/updates/1", "", "blue", ours + "cluster/blue"},
		{"POST", "/clusters/blue/access-entries", "{}", "blue", ours + "cluster/blue"},
		{"GET", "/clusters/blue/access-entries/" + role, "", "blue", ours + "access-entry/blue/role/111122223333/node/*"},
		{"POST", "/clusters/blue/access-entries/" + role + "/access-policies", "{}", "blue", ours + "access-entry/blue/role/111122223333/node/*"},
		{"GET", "/clusters/blue/access-entries/x", "", "", "*"},
		{"POST", "/clusters/blue/access-entries/arn:aws:iam::111122223333:role%2Fa%20b%2Fdev/access-policies", "{}", "", "*"},
		{"DELETE", "/clusters/blue/access-entries/arn:aws:iam::111122223333:root", "", "blue", ours + "access-entry/blue/root/111122223333//*"},
		{"GET", "/clusters/blue/node-groups/ng", "", "blue", ours + "nodegroup/blue/ng/*"},
		{"GET", "/cluster-versions", "", "", "*"},
		{"GET", "/access-policies", "", "", "*"},
		{"GET", "/tags/" + url.PathEscape(ours+"cluster/blue"), "", "blue", ours + "cluster/blue"},
		{"GET", "/tags/" + url.PathEscape(ours+"access-entry/blue/role/1/x/2"), "", "blue", ours + "access-entry/blue/role/1/x/2"},
		{"GET", "/tags/" + url.PathEscape("arn:aws:eks:us-east-1:111122223333:cluster/blue"), "", "", "*"},
	} {
		c := &closed{}
		c.call(t, tt.method, tt.path, tt.body)
		if c.asked.Cluster != tt.cluster || c.asked.Resource != tt.resource {
			t.Errorf("%s %s %s: about %q, %q, want %q, %q", tt.method, tt.path, tt.body, c.asked.Cluster, c.asked.Resource, tt.cluster, tt.resource)
		}
	}
}

func TestARNsAreOfTheRegionsPartition(t *testing.T) {
	for region, partition := range map[string]string{"us-west-2": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"} {
		a := &api{Options{Region: region, AccountID: "111122223333"}}
		if got, want := a.arn("cluster/blue"), "arn:"+partition+":eks:"+region+":111122223333:cluster/blue"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		associate := associateRequest{"arn:" + partition + ":eks::aws:cluster-access-policy/AmazonEKSViewPolicy", &accessScope{Type: scopeCluster}}
		if err := associate.check("blue", a.accessPolicies()); err != nil {
			t.Errorf("%s: %v", region, err)
		}
	}
}
