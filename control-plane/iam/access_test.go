package iam_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	authorization "k8s.io/api/authorization/v1"
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/ovenbird-dev/ovenbird/control-plane/access"
	"github.com/ovenbird-dev/ovenbird/control-plane/cluster/addons"
	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// revoked is how soon what is taken away must be gone, with the API server's cache as long
// as it is for clusters.
const (
	revoked       = 15 * time.Second
	cacheAsInUse  = "--authentication-token-webhook-cache-ttl=10s"
	policyLabel   = "ovenbird.dev/access-policies"
	userARNPrefix = "arn:aws:iam::111122223333:user/"
)

// beside runs something beside the cluster for as long as the test.
func (p *place) beside(t *testing.T, client kubernetes.Interface, run func(context.Context, registry.Cluster, kubernetes.Interface) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, p.cluster, client) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
}

// applyPolicies gives the API server the roles that every cluster has.
func applyPolicies(t *testing.T, admin kubernetes.Interface) {
	t.Helper()
	objects, err := addons.Render(addons.Values{AdministratorsGroup: "g", KubeletClientUser: "u"})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if !strings.HasPrefix(object.GetName(), "ovenbird:policy:") {
			continue
		}
		body, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		err = admin.RbacV1().RESTClient().Patch(types.ApplyYAMLPatchType).Resource(strings.ToLower(object.GetKind())+"s").Name(object.GetName()).
			Param("fieldManager", "test").Body(body).Do(t.Context()).Error()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// entry makes or changes the access entry of a user.
func (p *place) entry(t *testing.T, user string, policies ...registry.AssociatedPolicy) {
	t.Helper()
	entry, err := p.registry.GetAccessEntry(t.Context(), "kitchen", userARNPrefix+user)
	if errors.Is(err, registry.ErrNotFound) {
		_, err = p.registry.CreateAccessEntry(t.Context(), registry.AccessEntry{Cluster: "kitchen", PrincipalARN: userARNPrefix + user, Type: registry.TypeStandard, Policies: policies})
	} else if err == nil {
		entry.Policies = policies
		_, err = p.registry.UpdateAccessEntry(t.Context(), entry)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) namespace(t *testing.T, admin kubernetes.Interface, name string) {
	t.Helper()
	if _, err := admin.CoreV1().Namespaces().Create(t.Context(), &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name}}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// can asks the API server what the client may do: "create pods/exec in team-a", "list
// nodes", "get deployments.apps".
func can(ctx context.Context, client kubernetes.Interface, what string) error {
	what, namespace, _ := strings.Cut(what, " in ")
	verb, resource, _ := strings.Cut(what, " ")
	resource, group, _ := strings.Cut(resource, ".")
	resource, subresource, _ := strings.Cut(resource, "/")
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorization.SelfSubjectAccessReview{
		Spec: authorization.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorization.ResourceAttributes{
			Namespace: namespace, Verb: verb, Group: group, Resource: resource, Subresource: subresource,
		}},
	}, meta.CreateOptions{})
	if err == nil && !review.Status.Allowed {
		err = errForbidden
	}
	return err
}

var errForbidden = errors.New("forbidden")

// soon waits until the user may do it, or until it is forbidden.
func (p *place) soon(t *testing.T, user, what string, want error) {
	t.Helper()
	began := time.Now()
	eventually(t, revoked, func(ctx context.Context) error {
		if err := can(ctx, p.as(t, userARNPrefix+user, "kitchen"), what); !errors.Is(err, want) {
			return fmt.Errorf("%s %s: got %w, want %w", user, what, err, want)
		}
		return nil
	})
	t.Logf("%s %s after %s: %v", user, what, time.Since(began).Round(time.Millisecond), want)
}

func TestPoliciesForTheClusterAllowWhatAWSDocuments(t *testing.T) {
	p := open(t)
	applyPolicies(t, kubernetes.NewForConfigOrDie(p.admin))
	for _, tt := range []struct {
		user, policy    string
		allowed, denied []string
	}{
		{"viewer", registry.ViewPolicy,
			[]string{"list pods", "get pods/log in default", "watch deployments.apps in default", "get resourcequotas in default", "get namespaces"},
			[]string{"get secrets in default", "create pods in default", "get pods/exec in default", "list nodes", "get roles.rbac.authorization.k8s.io in default", "list endpoints.metrics.k8s.io"}},
		{"editor", registry.EditPolicy,
			[]string{"list pods", "create deployments.apps in default", "get secrets in default", "create pods/exec in default", "impersonate serviceaccounts in default"},
			[]string{"create rolebindings.rbac.authorization.k8s.io in default", "create namespaces", "create serviceaccounts/token in default", "create pods/eviction in default", "update resourcequotas in default"}},
		{"admin-of-things", registry.AdminPolicy,
			[]string{"list pods", "delete services in default", "create rolebindings.rbac.authorization.k8s.io in default", "create localsubjectaccessreviews.authorization.k8s.io in default"},
			[]string{"update resourcequotas in default", "create namespaces", "list nodes", "create clusterrolebindings.rbac.authorization.k8s.io"}},
		{"admin-of-all", registry.ClusterAdminPolicy,
			[]string{"delete nodes", "create clusterrolebindings.rbac.authorization.k8s.io", "update resourcequotas in default", "get anything.example.com"}, nil},
	} {
		p.entry(t, tt.user, registry.AssociatedPolicy{ARN: tt.policy})
		client := p.as(t, userARNPrefix+tt.user, "kitchen")
		for _, what := range tt.allowed {
			if err := can(t.Context(), client, what); err != nil {
				t.Errorf("%s: %s: got %v, want it allowed", tt.user, what, err)
			}
		}
		for _, what := range tt.denied {
			if err := can(t.Context(), client, what); !errors.Is(err, errForbidden) {
				t.Errorf("%s: %s: got %v, want it forbidden", tt.user, what, err)
			}
		}
	}
}

func TestPoliciesForNamespacesFollowEntriesAndNamespaces(t *testing.T) {
	p := open(t)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	applyPolicies(t, admin)
	p.namespace(t, admin, "team-a")
	p.entry(t, "jane", registry.AssociatedPolicy{ARN: registry.EditPolicy, Namespaces: []string{"team-*"}})
	edit := access.Role(registry.EditPolicy)
	bindings := admin.RbacV1().RoleBindings

	// What an earlier run has left, and what somebody made of one that is needed.
	for namespace, role := range map[string]string{"default": access.Role(registry.AdminPolicy), "team-a": "view"} {
		_, err := bindings(namespace).Create(t.Context(), &rbac.RoleBinding{
			ObjectMeta: meta.ObjectMeta{Name: edit, Labels: map[string]string{policyLabel: ""}},
			RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbac.Subject{{APIGroup: rbac.GroupName, Kind: "Group", Name: edit + ":default"}},
		}, meta.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Nobody else's.
	if _, err := bindings("default").Create(t.Context(), &rbac.RoleBinding{ObjectMeta: meta.ObjectMeta{Name: "other"}, RoleRef: rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: "view"}}, meta.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.beside(t, admin, access.Bindings{Entries: p.registry, Log: zaptest.NewLogger(t)}.Run)

	none := func(namespace string) {
		t.Helper()
		eventually(t, revoked, func(ctx context.Context) error {
			list, err := bindings(namespace).List(ctx, meta.ListOptions{LabelSelector: policyLabel})
			if err == nil && len(list.Items) > 0 {
				err = fmt.Errorf("%s still has %d bindings", namespace, len(list.Items))
			}
			return err
		})
	}
	p.soon(t, "jane", "create pods in team-a", nil)
	p.soon(t, "jane", "create pods in default", errForbidden)
	none("default")
	if _, err := bindings("default").Get(t.Context(), "other", meta.GetOptions{}); err != nil {
		t.Errorf("a binding that is somebody else's: %v", err)
	}
	t.Run("a namespace that comes later is matched", func(t *testing.T) {
		p.namespace(t, admin, "team-b")
		p.soon(t, "jane", "create pods in team-b", nil)
	})
	t.Run("another entry for the same namespace", func(t *testing.T) {
		p.entry(t, "jim", registry.AssociatedPolicy{ARN: registry.EditPolicy, Namespaces: []string{"team-b"}}, registry.AssociatedPolicy{ARN: registry.ViewPolicy, Namespaces: []string{"default"}})
		p.soon(t, "jim", "create pods in team-b", nil)
		p.soon(t, "jim", "list pods in default", nil)
		p.soon(t, "jim", "create pods in team-a", errForbidden)
	})
	t.Run("a binding that somebody removes comes back", func(t *testing.T) {
		if err := bindings("team-b").Delete(t.Context(), edit, meta.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		p.soon(t, "jane", "create pods in team-b", nil)
	})
	t.Run("a namespace that is going keeps its bindings and holds up nothing", func(t *testing.T) {
		p.namespace(t, admin, "team-c")
		p.soon(t, "jane", "create pods in team-c", nil)
		for _, name := range []string{"team-b", "team-c"} { // nobody finishes that here
			if err := admin.CoreV1().Namespaces().Delete(t.Context(), name, meta.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := bindings("team-b").Delete(t.Context(), edit, meta.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		p.namespace(t, admin, "team-d")
		p.soon(t, "jane", "create pods in team-d", nil)
		p.soon(t, "jane", "create pods in team-b", errForbidden)
		p.soon(t, "jane", "create pods in team-c", nil)
	})
	t.Run("what no entry uses is removed", func(t *testing.T) {
		p.entry(t, "jane", registry.AssociatedPolicy{ARN: registry.ViewPolicy, Namespaces: []string{"team-a"}})
		p.soon(t, "jane", "create pods in team-a", errForbidden)
		p.soon(t, "jane", "list pods in team-a", nil)
		for _, user := range []string{"jane", "jim"} {
			if err := p.registry.DeleteAccessEntry(t.Context(), "kitchen", userARNPrefix+user); err != nil {
				t.Fatal(err)
			}
		}
		none("")
	})
}

// The tokens are from before, and the API server remembers what it was told about them.
func TestWhatIsTakenAwayIsGoneWithin15Seconds(t *testing.T) {
	p := open(t, cacheAsInUse)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	applyPolicies(t, admin)
	p.beside(t, admin, p.configMaps.Run)
	p.beside(t, admin, access.Bindings{Entries: p.registry, Log: zaptest.NewLogger(t)}.Run)
	p.mode(t, registry.ModeAPIAndConfigMap)
	p.entry(t, "leaver", registry.AssociatedPolicy{ARN: registry.ViewPolicy})
	p.entry(t, "mover", registry.AssociatedPolicy{ARN: registry.ViewPolicy})
	p.entry(t, "local", registry.AssociatedPolicy{ARN: registry.ViewPolicy, Namespaces: []string{"default"}})
	p.writeAWSAuth(t, admin, map[string]string{"mapUsers": `[{userarn: "` + userARNPrefix + `mapped", username: mapped, groups: ["system:masters"]}]`})
	clients := map[string]kubernetes.Interface{}
	for _, user := range []string{"leaver", "mover", "local", "mapped"} {
		clients[user] = p.as(t, userARNPrefix+user, "kitchen")
		eventually(t, revoked, func(ctx context.Context) error { return can(ctx, clients[user], "list pods in default") })
	}

	began := time.Now()
	if err := p.registry.DeleteAccessEntry(t.Context(), "kitchen", userARNPrefix+"leaver"); err != nil {
		t.Fatal(err)
	}
	p.entry(t, "mover")
	p.entry(t, "local")
	p.mode(t, registry.ModeAPI)
	for user, gone := range map[string]func(error) bool{
		"leaver": apierrors.IsUnauthorized,
		"mover":  func(err error) bool { return errors.Is(err, errForbidden) },
		"local":  func(err error) bool { return errors.Is(err, errForbidden) },
		"mapped": apierrors.IsUnauthorized,
	} {
		eventually(t, revoked-time.Since(began), func(ctx context.Context) error {
			if err := can(ctx, clients[user], "list pods in default"); !gone(err) {
				return fmt.Errorf("%s: got %w", user, err)
			}
			return nil
		})
		t.Logf("%s is out after %s", user, time.Since(began).Round(time.Millisecond))
	}
}

func (p *place) mode(t *testing.T, mode string) {
	t.Helper()
	if _, err := p.registry.Change(t.Context(), "kitchen", func(c *registry.Cluster) error { c.AuthenticationMode = mode; return nil }); err != nil {
		t.Fatal(err)
	}
}

// writeAWSAuth makes or replaces the ConfigMap.
func (p *place) writeAWSAuth(t *testing.T, admin kubernetes.Interface, data map[string]string) {
	t.Helper()
	maps := admin.CoreV1().ConfigMaps("kube-system")
	object := &core.ConfigMap{ObjectMeta: meta.ObjectMeta{Name: "aws-auth", Namespace: "kube-system"}, Data: data}
	eventually(t, revoked, func(ctx context.Context) error { // the API server makes kube-system after it is ready
		_, err := maps.Create(ctx, object, meta.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			_, err = maps.Update(ctx, object, meta.UpdateOptions{})
		}
		return err
	})
}

func TestAWSAuthNamesWhoHasNoEntry(t *testing.T) {
	p := open(t)
	admin := kubernetes.NewForConfigOrDie(p.admin)
	p.mode(t, registry.ModeAPIAndConfigMap)
	if err := p.registry.DeleteAccessEntry(t.Context(), "kitchen", nodeRole); err != nil {
		t.Fatal(err)
	}
	p.writeAWSAuth(t, admin, map[string]string{
		"mapRoles": `
- rolearn: arn:aws:iam::111122223333:role/some/path/ovenbird-node
  username: system:node:{{EC2PrivateDNSName}}
  groups: [system:bootstrappers, system:nodes]
- rolearn: arn:aws:iam::111122223333:role/deployer
  username: deployer:{{SessionName}}
  groups: [bakers]
`,
		"mapUsers": `[{userarn: "` + adminARN + `", username: root, groups: ["system:masters"]}]`,
	})
	p.beside(t, admin, p.configMaps.Run)
	p.attend(t)

	is := func(arn, name string, groups ...string) {
		t.Helper()
		eventually(t, revoked, func(ctx context.Context) error {
			user, err := p.whoami(ctx, p.as(t, arn, "kitchen"))
			got := slices.DeleteFunc(user.Groups, func(group string) bool { return group == "system:authenticated" })
			slices.Sort(got)
			if err == nil && (user.Username != name || !slices.Equal(got, groups)) {
				err = fmt.Errorf("got %+v", user)
			}
			return err
		})
	}
	deployer := "arn:aws:sts::111122223333:assumed-role/deployer/jane"
	is(deployer, "deployer:jane", "bakers")
	is(nodeARN(1), "system:node:"+firstNode, "system:bootstrappers", "system:nodes")
	is(adminARN, adminARN, "ovenbird:policy:AmazonEKSClusterAdminPolicy") // the entry wins
	name := file(t, p.as(t, nodeARN(1), "kitchen"), "kubernetes.io/kube-apiserver-client-kubelet", firstNode, "client auth")
	if d := decision(t, admin, name); d.Type != "Approved" {
		t.Errorf("a node of the ConfigMap: %s: %s", d.Type, d.Message)
	}

	// A ConfigMap that cannot be read changes nothing; the next that can does.
	p.writeAWSAuth(t, admin, map[string]string{"mapRoles": "- rolearn: ["})
	is(deployer, "deployer:jane", "bakers")
	p.writeAWSAuth(t, admin, map[string]string{"mapAccounts": `["111122223333"]`})
	is(deployer, "arn:aws:iam::111122223333:role/deployer")
	if err := admin.CoreV1().ConfigMaps("kube-system").Delete(t.Context(), "aws-auth", meta.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, revoked, func(ctx context.Context) error {
		if user, err := p.whoami(ctx, p.as(t, deployer, "kitchen")); !apierrors.IsUnauthorized(err) {
			return fmt.Errorf("got %+v, %w", user, err)
		}
		return nil
	})
}
