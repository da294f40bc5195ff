package iam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
	authentication "k8s.io/api/authentication/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ovenbird-dev/ovenbird/control-plane/iam/awsauth"
	"github.com/ovenbird-dev/ovenbird/control-plane/nodes"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

const (
	account  = "111122223333"
	adminARN = "arn:aws:iam::111122223333:user/admin"
	nodeRole = "arn:aws:iam::111122223333:role/ovenbird-node"
	nodeID   = "i-0123456789abcdef0"
	nodeARN  = "arn:aws:sts::111122223333:assumed-role/ovenbird-node/" + nodeID
	nodeName = "ip-10-0-1-2.us-west-2.compute.internal"

	standardUID = "aws-iam-authenticator:111122223333:AIDAEXAMPLE"
)

func sessionOf(role, session string) string {
	return "arn:aws:sts::111122223333:assumed-role/" + role + "/" + session
}

// world is everything that the webhook asks: one cluster, and tokens that read as the ARN
// of who made them.
type world struct {
	cluster   registry.Cluster
	entries   map[string]registry.AccessEntry
	instances map[string]nodes.Instance
	ec2       error
	occupied  error             // a Node of the name is another instance's
	configMap map[string]string // aws-auth
	accessKey string
}

func (w world) Get(_ context.Context, name string) (registry.Cluster, error) {
	if name != w.cluster.Name {
		return registry.Cluster{}, registry.ErrNotFound
	}
	return w.cluster, nil
}

func (w world) GetAccessEntry(_ context.Context, cluster, principal string) (registry.AccessEntry, error) {
	entry, ok := w.entries[principal]
	if !ok || cluster != w.cluster.Name {
		return registry.AccessEntry{}, registry.ErrNotFound
	}
	return entry, nil
}

func (w world) Check(token string) (string, error) {
	if token == "" {
		return "", ststoken.ErrInvalid
	}
	return w.accessKey, nil
}

func (w world) Verify(_ context.Context, token, cluster string) (ststoken.Identity, error) {
	arn, ok := strings.CutPrefix(token, cluster+" ")
	if !ok {
		return ststoken.Identity{}, ststoken.ErrInvalid
	}
	return ststoken.Identity{Account: strings.Split(arn, ":")[4], ARN: arn, UserID: "AIDAEXAMPLE:session", AccessKeyID: w.accessKey}, nil
}

func (w world) ByID(_ context.Context, id string) (nodes.Instance, error) {
	instance, ok := w.instances[id]
	switch {
	case w.ec2 != nil:
		return nodes.Instance{}, w.ec2
	case !ok:
		return nodes.Instance{}, nodes.ErrNoInstance
	}
	return instance, nil
}

func (w world) Entry(_, principal string) (registry.AccessEntry, error) {
	mappings, err := awsauth.Parse(w.configMap)
	if err != nil {
		return registry.AccessEntry{}, err
	}
	return mappings.Entry(principal)
}

func (w world) Vacate(context.Context, string, nodes.Instance) error { return w.occupied }

func newWorld() *world {
	return &world{
		cluster: registry.Cluster{Name: "kitchen", ARN: "arn:aws:eks:us-west-2:111122223333:cluster/kitchen", VPCID: "vpc-1"},
		entries: map[string]registry.AccessEntry{
			adminARN: {Type: registry.TypeStandard, Username: adminARN, Policies: []registry.AssociatedPolicy{{ARN: registry.ClusterAdminPolicy}}},
			nodeRole: {Type: registry.TypeEC2Linux},
			"arn:aws:iam::111122223333:role/deployer": {
				Type: registry.TypeStandard, Username: "arn:aws:sts::111122223333:assumed-role/deployer/{{SessionName}}", Groups: []string{"bakers"},
			},
			"arn:aws:iam::111122223333:user/plain": {Type: registry.TypeStandard},
			"arn:aws:iam::111122223333:role/evil":  {Type: registry.TypeStandard, Username: "{{SessionName}}:{{AccountID}}"},
			"arn:aws:iam::111122223333:role/odd":   {Type: "FARGATE_LINUX"},
			"arn:aws:iam::111122223333:role/keys":  {Type: registry.TypeStandard, Username: "k:{{AccountID}}:{{AccessKeyID}}:{{SessionNameRaw}}"},
			"arn:aws:iam::111122223333:role/stray": {Type: registry.TypeStandard, Username: "k:{{EC2PrivateDNSName}}"},
			"arn:aws:iam::111122223333:role/grab":  {Type: registry.TypeStandard, Groups: []string{"ovenbird:policy:AmazonEKSClusterAdminPolicy"}},
			"arn:aws:iam::111122223333:role/some": {Type: registry.TypeStandard, Username: "some", Groups: []string{"bakers"}, Policies: []registry.AssociatedPolicy{
				{ARN: registry.ViewPolicy}, {ARN: registry.EditPolicy, Namespaces: []string{"team-*", "sandbox"}},
			}},
			"arn:aws:iam::111122223333:user/node": {Type: registry.TypeEC2Linux},
		},
		instances: map[string]nodes.Instance{nodeID: {
			ID: nodeID, State: "running", VPCID: "vpc-1", PrivateDNSName: nodeName, PrivateIP: netip.MustParseAddr("10.0.1.2"),
			ProfileARN: "arn:aws:iam::111122223333:instance-profile/ovenbird-node",
			Tags:       map[string]string{"kubernetes.io/cluster/kitchen": "owned"},
		}},
	}
}

// ask sends a token to a cluster's webhook and returns the answer.
func ask(t *testing.T, w *world, cluster, token string) authentication.TokenReviewStatus {
	t.Helper()
	body, err := json.Marshal(authentication.TokenReview{
		TypeMeta: meta.TypeMeta{Kind: "TokenReview", APIVersion: "authentication.k8s.io/v1"},
		Spec:     authentication.TokenReviewSpec{Token: token},
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	NewWebhook(Principals{w, w}, w, w, zaptest.NewLogger(t)).ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/clusters/"+cluster+"/tokenreview", bytes.NewReader(body)))
	if strings.Contains(recorder.Body.String(), token) && token != "" {
		t.Error("the answer repeats the token")
	}
	var review authentication.TokenReview
	if err := json.Unmarshal(recorder.Body.Bytes(), &review); err != nil || recorder.Code != 200 || review.Kind != "TokenReview" || review.APIVersion != "authentication.k8s.io/v1" {
		t.Fatalf("got %d %s: %v", recorder.Code, recorder.Body, err)
	}
	return review.Status
}

func TestAPrincipalWithAnEntryIsAUser(t *testing.T) {
	tests := []struct {
		name, arn, username, uid string
		groups                   []string
	}{
		{"an administrator", adminARN, adminARN, standardUID, []string{"ovenbird:policy:AmazonEKSClusterAdminPolicy"}},
		{"a role session", "arn:aws:sts::111122223333:assumed-role/deployer/jane@example.com", "arn:aws:sts::111122223333:assumed-role/deployer/jane-example.com", standardUID, []string{"bakers"}},
		{"an entry without a name", "arn:aws:iam::111122223333:user/plain", "arn:aws:iam::111122223333:user/plain", standardUID, nil},
		{"a node", nodeARN, "system:node:" + nodeName, nodeID, []string{"system:nodes"}},
		{"every template", sessionOf("keys", "jane@example.com"), "k:111122223333:ASIAEXAMPLE:jane@example.com", standardUID, nil},
		{"groups and policies", sessionOf("some", "x"), "some", standardUID, []string{
			"bakers", "ovenbird:policy:AmazonEKSEditPolicy:sandbox", "ovenbird:policy:AmazonEKSEditPolicy:team-*", "ovenbird:policy:AmazonEKSViewPolicy",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			w.accessKey = "ASIAEXAMPLE"
			status := ask(t, w, "kitchen", "kitchen "+tt.arn)
			if !status.Authenticated || status.Error != "" || status.User.Username != tt.username || status.User.UID != tt.uid || !slices.Equal(status.User.Groups, tt.groups) {
				t.Errorf("got %+v", status)
			}
			if status.User.Extra["arn"][0] != tt.arn {
				t.Errorf("extra: %+v", status.User.Extra)
			}
		})
	}
}

func TestEverybodyElseIsRefusedInTheSameWords(t *testing.T) {
	instance := func(change func(*nodes.Instance)) func(*world) {
		return func(w *world) {
			i := w.instances[nodeID]
			change(&i)
			w.instances[nodeID] = i
		}
	}
	node := "kitchen " + nodeARN
	tests := []struct {
		name    string
		cluster string
		token   string
		change  func(*world)
	}{
		{"no token", "kitchen", "", nil},
		{"another cluster's token", "kitchen", "pantry " + adminARN, nil},
		{"no such cluster", "pantry", "pantry " + adminARN, nil},
		{"a cluster that is being deleted", "kitchen", "kitchen " + adminARN, func(w *world) { w.cluster.Deleting = true }},
		{"no entry", "kitchen", "kitchen arn:aws:iam::111122223333:user/mallory", nil},
		{"an entry taken away", "kitchen", node, func(w *world) { delete(w.entries, nodeRole) }},
		{"the same role name in another account", "kitchen", "kitchen arn:aws:sts::444455556666:assumed-role/ovenbird-node/" + nodeID, nil},
		{"an entry of another type", "kitchen", "kitchen arn:aws:sts::111122223333:assumed-role/odd/x", nil},
		{"a session that names itself system:", "kitchen", "kitchen arn:aws:sts::111122223333:assumed-role/evil/system", nil},
		{"an access key's ID that nobody knows", "kitchen", "kitchen " + sessionOf("keys", "x"), nil},
		{"a template that is not for people", "kitchen", "kitchen " + sessionOf("stray", nodeID), nil},
		{"an entry that names a policy's group", "kitchen", "kitchen " + sessionOf("grab", "x"), nil},
		{"a node that is a user", "kitchen", "kitchen arn:aws:iam::111122223333:user/node", nil},
		{"a session that is no instance", "kitchen", "kitchen arn:aws:sts::111122223333:assumed-role/ovenbird-node/jane", nil},
		{"an instance that is not there", "kitchen", "kitchen arn:aws:sts::111122223333:assumed-role/ovenbird-node/i-0fedcba9876543210", nil},
		{"an instance that is stopped", "kitchen", node, instance(func(i *nodes.Instance) { i.State = "stopped" })},
		{"an instance that still starts", "kitchen", node, instance(func(i *nodes.Instance) { i.State = "pending" })},
		{"an instance of another VPC", "kitchen", node, instance(func(i *nodes.Instance) { i.VPCID = "vpc-2" })},
		{"an instance without the tag", "kitchen", node, instance(func(i *nodes.Instance) { i.Tags = nil })},
		{"an instance of another cluster", "kitchen", node, instance(func(i *nodes.Instance) { i.Tags = map[string]string{"kubernetes.io/cluster/pantry": "owned"} })},
		{"an instance with another profile", "kitchen", node, instance(func(i *nodes.Instance) { i.ProfileARN = "arn:aws:iam::111122223333:instance-profile/web" })},
		{"an instance without a profile", "kitchen", node, instance(func(i *nodes.Instance) { i.ProfileARN = "" })},
		{"an instance without a name", "kitchen", node, instance(func(i *nodes.Instance) { i.PrivateDNSName = "" })},
		{"a name that another instance's Node has", "kitchen", node, func(w *world) { w.occupied = errors.New("the Node is another's") }},
		{"trouble with EC2", "kitchen", node, func(w *world) { w.ec2 = errors.New("throttled") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			if tt.change != nil {
				tt.change(w)
			}
			status := ask(t, w, tt.cluster, tt.token)
			if status.Authenticated || status.User.Username != "" || status.Error != refused {
				t.Errorf("got %+v", status)
			}
		})
	}
}

func TestInstancesWithAnEntryOfTypeEC2(t *testing.T) {
	stopped := func(w *world) { i := w.instances[nodeID]; i.State = "stopped"; w.instances[nodeID] = i }
	tests := []struct {
		name     string
		username string
		groups   []string
		change   func(*world)
		want     string // user name; empty: refused
		in       []string
	}{
		{"are nodes by default", "", nil, nil, "system:node:" + nodeName, []string{"system:nodes"}},
		{"are nodes by that template, with groups of their own", registry.NodeUsername, []string{"system:nodes", "bakers"}, nil, "system:node:" + nodeName, []string{"system:nodes", "bakers"}},
		{"have the user name of the template", "oven:{{EC2PrivateDNSName}}:{{SessionName}}", []string{"bakers"}, nil, "oven:" + nodeName + ":" + nodeID, []string{"bakers"}},
		{"must be running", "oven:{{EC2PrivateDNSName}}", nil, stopped, "", nil},
		{"cannot be another node", "system:node:ip-10-0-9-9.us-west-2.compute.internal", nil, nil, "", nil},
		{"cannot be another node by the session", "system:node:{{SessionName}}", nil, nil, "", nil},
		{"cannot be in the nodes' group under another name", "oven:{{EC2PrivateDNSName}}", []string{"system:nodes"}, nil, "", nil},
		{"cannot be administrators", "", []string{"system:masters"}, nil, "", nil},
		{"cannot be in a policy's group", "", []string{"ovenbird:policy:AmazonEKSViewPolicy"}, nil, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			w.entries[nodeRole] = registry.AccessEntry{Type: registry.TypeEC2, Username: tt.username, Groups: tt.groups}
			if tt.change != nil {
				tt.change(w)
			}
			status := ask(t, w, "kitchen", "kitchen "+nodeARN)
			if status.Authenticated != (tt.want != "") || status.User.Username != tt.want || !slices.Equal(status.User.Groups, tt.in) {
				t.Errorf("got %+v", status)
			}
			if status.Authenticated && status.User.UID != nodeID {
				t.Errorf("got the UID %s", status.User.UID)
			}
		})
	}
}

func TestAWSAuthIsForWhoeverHasNoEntry(t *testing.T) {
	const otherAccount = "arn:aws:iam::444455556666:user/jane"
	role := func(username, groups string) map[string]string {
		return map[string]string{"mapRoles": "- {rolearn: arn:aws:iam::111122223333:role/mapped, username: '" + username + "', groups: [" + groups + "]}"}
	}
	mapped := sessionOf("mapped", nodeID)
	withProfile := func(w *world) {
		i := w.instances[nodeID]
		i.ProfileARN = "arn:aws:iam::111122223333:instance-profile/mapped"
		w.instances[nodeID] = i
	}
	tests := []struct {
		name      string
		configMap map[string]string
		arn       string
		change    func(*world)
		want      string // user name; empty: refused
		in        []string
	}{
		{"a role", role("deployer:{{SessionName}}", "bakers"), mapped, nil, "deployer:" + nodeID, []string{"bakers"}},
		{"an administrator", role("root", "system:masters"), mapped, nil, "root", []string{"system:masters"}},
		{"no user name", role("", "bakers"), mapped, nil, mapped, []string{"bakers"}},
		{"an account", map[string]string{"mapAccounts": "- '444455556666'"}, otherAccount, nil, otherAccount, nil},
		{"a node", role(registry.NodeUsername, "system:bootstrappers, system:nodes"), mapped, withProfile, "system:node:" + nodeName, []string{"system:nodes", "system:bootstrappers"}},
		{"an entry wins", map[string]string{"mapUsers": "- {userarn: '" + adminARN + "', username: mapped}"}, adminARN, nil, adminARN, []string{"ovenbird:policy:AmazonEKSClusterAdminPolicy"}},

		{"nobody", nil, mapped, nil, "", nil},
		{"a mode that knows entries only", role("deployer", ""), mapped, func(w *world) { w.cluster.AuthenticationMode = registry.ModeAPI }, "", nil},
		{"a mode that nobody has written down", role("deployer", ""), mapped, func(w *world) { w.cluster.AuthenticationMode = "" }, "", nil},
		{"a ConfigMap that cannot be read", map[string]string{"mapRoles": "x"}, mapped, nil, "", nil},
		{"another account's", map[string]string{"mapAccounts": "- '444455556666'"}, mapped, nil, "", nil},
		{"a node whose instance has another role", role(registry.NodeUsername, "system:nodes"), mapped, nil, "", nil},
		{"a node that is no instance", role(registry.NodeUsername, "system:nodes"), sessionOf("mapped", "jane"), nil, "", nil},
		{"a node by its session's name", role("system:node:{{SessionName}}", "system:nodes"), mapped, withProfile, "", nil},
		{"a node by another name", role("x", "system:nodes"), mapped, withProfile, "", nil},
		{"a node that is an administrator", role(registry.NodeUsername, "system:nodes, system:masters"), mapped, withProfile, "", nil},
		{"a user of Kubernetes' own", role("system:kube-controller-manager", ""), mapped, nil, "", nil},
		{"a user of Kubernetes' own by its session's name", role("{{SessionName}}:kube-scheduler", ""), sessionOf("mapped", "system"), nil, "", nil},
		{"the API server towards kubelets", role("{{SessionName}}", ""), sessionOf("mapped", "kube-apiserver-kubelet-client"), nil, "", nil},
		{"another group of Kubernetes' own", role("x", "system:serviceaccounts"), mapped, nil, "", nil},
		{"a policy's group", role("x", "\"ovenbird:policy:AmazonEKSViewPolicy\""), mapped, nil, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			w.cluster.AuthenticationMode, w.configMap = registry.ModeAPIAndConfigMap, tt.configMap
			if tt.change != nil {
				tt.change(w)
			}
			status := ask(t, w, "kitchen", "kitchen "+tt.arn)
			if status.Authenticated != (tt.want != "") || status.User.Username != tt.want || !slices.Equal(status.User.Groups, tt.in) {
				t.Errorf("got %+v", status)
			}
		})
	}
}

func TestTheWebhookReadsNothingButReviews(t *testing.T) {
	handler := NewWebhook(newWorld(), newWorld(), newWorld(), zaptest.NewLogger(t))
	for name, tt := range map[string]struct {
		method, path, body string
		code               int
	}{
		"another version": {"POST", "/clusters/kitchen/tokenreview", `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1beta1"}`, 400},
		"another kind":    {"POST", "/clusters/kitchen/tokenreview", `{"kind":"SubjectAccessReview","apiVersion":"authentication.k8s.io/v1"}`, 400},
		"no JSON":         {"POST", "/clusters/kitchen/tokenreview", `x`, 400},
		"a huge body":     {"POST", "/clusters/kitchen/tokenreview", `{"spec":{"token":"` + strings.Repeat("x", maxReview) + `"}}`, 400},
		"another method":  {"GET", "/clusters/kitchen/tokenreview", ``, 405},
		"another path":    {"POST", "/tokenreview", ``, 404},
	} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body)))
		if recorder.Code != tt.code {
			t.Errorf("%s: got %d, want %d", name, recorder.Code, tt.code)
		}
	}
}

func TestKeysAreReadFromAPrivateFileOnly(t *testing.T) {
	const good = `{"credentials":[{"accessKeyId":"AKIA","secretAccessKey":"hush","arn":"arn:aws:iam::111122223333:user/admin"}]}`
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"a private file", good, 0o600, ""},
		{"a file that the group may read", good, 0o640, "chmod 600"},
		{"no JSON", "hush", 0o600, "is not JSON"},
		{"no key", `{}`, 0o600, "names no access key"},
		{"a key without an ARN", `{"credentials":[{"accessKeyId":"AKIA","secretAccessKey":"hush"}]}`, 0o600, "entry 0 lacks"},
		{"a key twice", strings.Replace(good, "[", "["+good[len(`{"credentials":[`):len(good)-2]+",", 1), 0o600, "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials.json")
			if err := os.WriteFile(path, []byte(tt.content), tt.mode); err != nil {
				t.Fatal(err)
			}
			keys, err := ReadKeys(path)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hush") {
					t.Errorf("got %v, want %q and no secret", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if credential, err := keys.Lookup(t.Context(), "AKIA"); err != nil || credential.SecretAccessKey != "hush" || credential.ARN != adminARN {
				t.Errorf("got %+v, %v", credential, err)
			}
			if _, err := keys.Lookup(t.Context(), "ASIA"); err == nil {
				t.Error("an unknown key was found")
			}
		})
	}
	if _, err := ReadKeys(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing file was read")
	}
}

// unread is a registry that nobody may ask.
type unread struct {
	*testing.T
	Registry
}

func (u unread) Get(context.Context, string) (registry.Cluster, error) {
	u.Error("the registry was read")
	return registry.Cluster{}, registry.ErrNotFound
}

func TestWhatCanBeNoTokenCostsNoRead(t *testing.T) {
	body := `{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":""}}`
	recorder := httptest.NewRecorder()
	NewWebhook(unread{T: t}, newWorld(), newWorld(), zaptest.NewLogger(t)).ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/clusters/kitchen/tokenreview", strings.NewReader(body)))
	if recorder.Code != http.StatusOK || strings.Contains(recorder.Body.String(), `"authenticated":true`) {
		t.Errorf("got %d %s", recorder.Code, recorder.Body)
	}
}

// throttling are tokens that come too often.
type throttling struct{ world }

func (throttling) Verify(context.Context, string, string) (ststoken.Identity, error) {
	return ststoken.Identity{}, ErrThrottled
}

func TestReviewsThatAreThrottledAreOneLineInTheLog(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	w := newWorld()
	handler := NewWebhook(w, throttling{*w}, w, zap.New(core))
	for i := range 100 {
		body := fmt.Sprintf(`{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","spec":{"token":"%d"}}`, i)
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/clusters/kitchen/tokenreview", strings.NewReader(body)))
	}
	// A minute of the clock may end meanwhile.
	if n := logs.Len(); n < 1 || n > 2 {
		t.Errorf("%d lines, want one", n)
	}
}
