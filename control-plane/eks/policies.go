package eks

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
	"github.com/ovenbird-dev/ovenbird/internal/partition"
)

// accessPolicies are the ARNs of those on offer in the API's partition, sorted.
func (a *api) accessPolicies() []string {
	return []string{a.policyARN(registry.AdminPolicy), a.policyARN(registry.ClusterAdminPolicy), a.policyARN(registry.EditPolicy), a.policyARN(registry.ViewPolicy)}
}

// policyARN is what the policy is called in the API's partition.
func (a *api) policyARN(policy string) string {
	return strings.Replace(policy, "arn:aws:", "arn:"+partition.Of(a.Region).Name+":", 1)
}

// namespacePattern is a namespace's name, which may begin or end with a star.
var namespacePattern = regexp.MustCompile(`^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?|\*[a-z0-9-]{0,62}[a-z0-9]|[a-z0-9][a-z0-9-]{0,62}\*)$`)

// Scopes of an association.
const (
	scopeCluster   = "cluster"
	scopeNamespace = "namespace"
)

type accessPolicy struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
}

type accessScope struct {
	Type       string   `json:"type"`
	Namespaces []string `json:"namespaces"`
}

// associatedPolicy is an association on the wire.
type associatedPolicy struct {
	PolicyARN    string      `json:"policyArn"`
	Scope        accessScope `json:"accessScope"`
	AssociatedAt epoch       `json:"associatedAt"`
	ModifiedAt   epoch       `json:"modifiedAt"`
}

func policyOnTheWire(p registry.AssociatedPolicy) associatedPolicy {
	scope := accessScope{Type: scopeNamespace, Namespaces: p.Namespaces}
	if p.Namespaces == nil {
		scope = accessScope{Type: scopeCluster, Namespaces: []string{}}
	}
	return associatedPolicy{p.ARN, scope, epoch(p.AssociatedAt), epoch(p.ModifiedAt)}
}

func (a *api) listAccessPolicies(_ context.Context, r *http.Request) (any, error) {
	arns, next, err := page(a.accessPolicies(), r.URL.Query())
	if err != nil {
		return nil, err
	}
	shown := []accessPolicy{}
	for _, arn := range arns {
		_, name := cutLast(arn, "/")
		shown = append(shown, accessPolicy{name, arn})
	}
	return struct {
		AccessPolicies []accessPolicy `json:"accessPolicies"`
		NextToken      string         `json:"nextToken,omitempty"`
	}{shown, next}, nil
}

type associateRequest struct {
	PolicyARN string       `json:"policyArn"`
	Scope     *accessScope `json:"accessScope"`
}

// check refuses what the request says by itself.
func (request *associateRequest) check(name string, offered []string) error {
	if !slices.Contains(offered, request.PolicyARN) {
		return notFound(name, "The specified policyArn could not be found: %.200q. You can view the available access policies with 'list-access-policies'.", request.PolicyARN)
	}
	switch scope := request.Scope; {
	case scope == nil:
		return invalidParameter(name, "accessScope is required")
	case scope.Type == scopeCluster:
		if len(scope.Namespaces) > 0 {
			return invalidParameter(name, "accessScope.namespaces: the scope %s has none", scopeCluster)
		}
	case scope.Type == scopeNamespace:
		if len(scope.Namespaces) == 0 {
			return invalidParameter(name, "accessScope.namespaces: the scope %s needs at least one", scopeNamespace)
		}
		for _, namespace := range scope.Namespaces {
			if !namespacePattern.MatchString(namespace) {
				return invalidParameter(name, "accessScope.namespaces: %.100q is not a namespace: its name may begin or end with *", namespace)
			}
		}
	default:
		return invalidParameter(name, "accessScope.type: %.40q is not one of %s, %s", scope.Type, scopeCluster, scopeNamespace)
	}
	return nil
}

// associateAccessPolicy adds a policy to an entry, or gives it another scope.
func (a *api) associateAccessPolicy(ctx context.Context, r *http.Request) (any, error) {
	var request associateRequest
	if _, err := readJSON(r, &request); err != nil {
		return nil, err
	}
	name, principal := r.PathValue("name"), r.PathValue("principal")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	if err := request.check(name, a.accessPolicies()); err != nil {
		return nil, err
	}
	now := a.Now().UTC()
	policy := registry.AssociatedPolicy{ARN: request.PolicyARN, Namespaces: request.Scope.Namespaces, AssociatedAt: now, ModifiedAt: now}
	if request.Scope.Type == scopeCluster {
		policy.Namespaces = nil
	}
	entry, err := a.changeEntry(ctx, name, principal, func(e *registry.AccessEntry) error {
		if e.Type == registry.TypeEC2Linux {
			return badRequest(name, "An access policy cannot be associated with an access entry of type %s", e.Type)
		}
		if before, again := e.Policy(policy.ARN); again {
			policy.AssociatedAt = before.AssociatedAt
		}
		e.Policies = append(without(e.Policies, policy.ARN), policy)
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.Log.Info("access policy associated", zap.String("cluster", name), zap.String("principal", entry.PrincipalARN),
		zap.String("policy", policy.ARN), zap.Strings("namespaces", policy.Namespaces), zap.String("caller", caller(ctx)))
	return struct {
		ClusterName  string           `json:"clusterName"`
		PrincipalARN string           `json:"principalArn"`
		Policy       associatedPolicy `json:"associatedAccessPolicy"`
	}{name, entry.PrincipalARN, policyOnTheWire(policy)}, nil
}

func (a *api) disassociateAccessPolicy(ctx context.Context, r *http.Request) (any, error) {
	name, principal, arn := r.PathValue("name"), r.PathValue("principal"), r.PathValue("policy")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	entry, err := a.changeEntry(ctx, name, principal, func(e *registry.AccessEntry) error {
		if _, associated := e.Policy(arn); !associated {
			return notFound(name, "The specified policyArn is not associated with the access entry: %.200q", arn)
		}
		e.Policies = without(e.Policies, arn)
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.Log.Info("access policy disassociated", zap.String("cluster", name), zap.String("principal", entry.PrincipalARN), zap.String("policy", arn), zap.String("caller", caller(ctx)))
	return struct{}{}, nil
}

func without(policies []registry.AssociatedPolicy, arn string) []registry.AssociatedPolicy {
	return slices.DeleteFunc(policies, func(p registry.AssociatedPolicy) bool { return p.ARN == arn })
}

func (a *api) listAssociatedPolicies(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	entry, err := a.entry(ctx, name, r.PathValue("principal"))
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entry.Policies, func(a, b registry.AssociatedPolicy) int { return strings.Compare(a.ARN, b.ARN) })
	arns := make([]string, 0, len(entry.Policies))
	for _, p := range entry.Policies {
		arns = append(arns, p.ARN)
	}
	onPage, next, err := page(arns, r.URL.Query())
	if err != nil {
		return nil, err
	}
	shown := []associatedPolicy{}
	for _, arn := range onPage {
		p, _ := entry.Policy(arn)
		shown = append(shown, policyOnTheWire(p))
	}
	return struct {
		ClusterName  string             `json:"clusterName"`
		PrincipalARN string             `json:"principalArn"`
		Policies     []associatedPolicy `json:"associatedAccessPolicies"`
		NextToken    string             `json:"nextToken,omitempty"`
	}{name, entry.PrincipalARN, shown, next}, nil
}

// changeEntry edits the entry that a caller named.
func (a *api) changeEntry(ctx context.Context, name, principal string, change func(*registry.AccessEntry) error) (registry.AccessEntry, error) {
	if !ownerARN.MatchString(principal) {
		return registry.AccessEntry{}, noEntry(name)
	}
	entry, err := a.Registry.ChangeAccessEntry(ctx, name, principal, change)
	if errors.Is(err, registry.ErrNotFound) {
		return registry.AccessEntry{}, noEntry(name)
	}
	return entry, err
}
