package eks

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// nodesGroup is the group of an instance, as EKS shows it.
const nodesGroup = "system:nodes"

var (
	principalARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+$`)
	// ownerARN matches whoever can have an entry: a cluster's creator may be no role or user.
	ownerARN = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|(role|user)/[\w+=,.@/-]+)|sts::[0-9]{12}:federated-user/[\w+=,.@-]+)$`)
	// reserved names belong to Kubernetes, to AWS and to Ovenbird.
	reserved = regexp.MustCompile(`^(system|eks|aws|amazon|iam|ovenbird):`)
)

// accessEntry is an access entry on the wire.
type accessEntry struct {
	ClusterName      string            `json:"clusterName"`
	PrincipalARN     string            `json:"principalArn"`
	KubernetesGroups []string          `json:"kubernetesGroups"`
	ARN              string            `json:"accessEntryArn"`
	CreatedAt        epoch             `json:"createdAt"`
	ModifiedAt       epoch             `json:"modifiedAt"`
	Tags             map[string]string `json:"tags"`
	Username         string            `json:"username"`
	Type             string            `json:"type"`
}

type entryAnswer struct {
	AccessEntry accessEntry `json:"accessEntry"`
}

type createEntryRequest struct {
	PrincipalARN       string            `json:"principalArn"`
	KubernetesGroups   []string          `json:"kubernetesGroups"`
	Tags               map[string]string `json:"tags"`
	ClientRequestToken string            `json:"clientRequestToken"`
	Username           string            `json:"username"`
	Type               string            `json:"type"`
}

func entryOnTheWire(e registry.AccessEntry) entryAnswer {
	shown := accessEntry{
		ClusterName: e.Cluster, PrincipalARN: e.PrincipalARN, KubernetesGroups: orEmpty(e.Groups), ARN: e.ARN,
		CreatedAt: epoch(e.CreatedAt), ModifiedAt: epoch(e.ModifiedAt), Tags: e.Tags, Username: e.Username, Type: e.Type,
	}
	if shown.Tags == nil {
		shown.Tags = map[string]string{}
	}
	return entryAnswer{shown}
}

// newEntry fills in what an entry gets by itself: ARN, times, and the user name that EKS
// gives to a principal of its kind.
func (a *api) newEntry(e registry.AccessEntry) registry.AccessEntry {
	e.CreatedAt = a.Now().UTC()
	e.ModifiedAt = e.CreatedAt
	p := parsePrincipal(e.PrincipalARN)
	e.ARN = a.entryARN(e.Cluster, p, uuid.NewString())
	switch {
	case e.Type == registry.TypeEC2Linux:
		e.Username, e.Groups = registry.NodeUsername, []string{nodesGroup}
	case e.Username != "":
	case e.Type == registry.TypeEC2:
		e.Username = registry.NodeUsername
	case p.kind == "role":
		e.Username = strings.Replace(p.head, ":iam:", ":sts:", 1) + ":assumed-role/" + p.name + "/{{SessionName}}"
	default:
		e.Username = e.PrincipalARN
	}
	return e
}

// principal is the ARN of a principal in its parts, without the path.
type principal struct {
	head    string // arn:aws:iam::ACCOUNT
	account string
	kind    string // role, user
	name    string
}

func parsePrincipal(arn string) principal {
	var p principal
	var resource string // role/PATH/NAME
	p.head, resource = cutLast(arn, ":")
	_, p.account = cutLast(p.head, ":")
	p.kind, _, _ = strings.Cut(resource, "/")
	_, p.name = cutLast(resource, "/")
	return p
}

// entryARN is the ARN of the principal's access entry with that ID.
func (a *api) entryARN(cluster string, p principal, id string) string {
	return a.arn(strings.Join([]string{"access-entry", cluster, p.kind, p.account, p.name, id}, "/"))
}

// cutLast cuts s around the last separator; without one all of it comes before.
func cutLast(s, separator string) (before, after string) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):]
	}
	return s, ""
}

func (a *api) createAccessEntry(ctx context.Context, r *http.Request) (any, error) {
	var request createEntryRequest
	hash, err := readJSON(r, &request)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	c, err := a.cluster(ctx, name)
	if err != nil {
		return nil, err
	}
	if c.Deleting {
		return nil, badRequest(name, "Cluster %s is being deleted", name)
	}
	if err := request.check(name, a.AccountID); err != nil {
		return nil, err
	}
	token := request.ClientRequestToken
	if earlier, found, err := a.earlierEntry(ctx, name, token, hash); err != nil || found {
		return earlier, err
	}
	entry, err := a.Registry.CreateAccessEntry(ctx, a.newEntry(registry.AccessEntry{
		Cluster: name, PrincipalARN: request.PrincipalARN, Type: request.Type, Username: request.Username,
		Groups: request.KubernetesGroups, Tags: request.Tags, ClientRequestToken: token, RequestHash: hash,
	}))
	switch {
	case errors.Is(err, registry.ErrExists):
		// A retry may have overtaken the call that it repeats.
		if earlier, found, err := a.earlierEntry(ctx, name, token, hash); err != nil || found {
			return earlier, err
		}
		return nil, inUse(name, "The specified access entry resource is already in use on this cluster.")
	case errors.Is(err, registry.ErrNotFound):
		return nil, noCluster(name)
	case err != nil:
		return nil, err
	}
	a.Log.Info("access entry created", zap.String("cluster", name), zap.String("principal", entry.PrincipalARN), zap.String("type", entry.Type), zap.String("caller", caller(ctx)))
	return entryOnTheWire(entry), nil
}

// earlierEntry looks for the entry that an earlier call with the same token has made.
func (a *api) earlierEntry(ctx context.Context, name, token, hash string) (answer any, found bool, err error) {
	if token == "" {
		return nil, false, nil
	}
	entries, err := a.Registry.ListAccessEntries(ctx, name)
	if err != nil {
		return nil, false, err
	}
	i := slices.IndexFunc(entries, func(e registry.AccessEntry) bool { return e.ClientRequestToken == token })
	switch {
	case i < 0:
		return nil, false, nil
	case entries[i].RequestHash != hash:
		return nil, false, tokenReused(name)
	}
	return entryOnTheWire(entries[i]), true, nil
}

// check refuses what the request says by itself, and fills in the default type.
func (request *createEntryRequest) check(name, account string) error {
	if !principalARN.MatchString(request.PrincipalARN) {
		return invalidParameter(name, "principalArn: %.200q is not the ARN of an IAM role or user", request.PrincipalARN)
	}
	switch request.Type {
	case "":
		request.Type = registry.TypeStandard
	case registry.TypeStandard:
	case registry.TypeEC2Linux, registry.TypeEC2:
		if !roleARN.MatchString(request.PrincipalARN) || !strings.Contains(request.PrincipalARN, "::"+account+":") {
			return invalidParameter(name, "principalArn: type %s is for roles of the cluster's account", request.Type)
		}
	default:
		return invalidParameter(name, "type: %.40q is not offered: choose %s, %s or %s", request.Type, registry.TypeStandard, registry.TypeEC2Linux, registry.TypeEC2)
	}
	if err := checkUser(name, request.Type, request.Username, request.KubernetesGroups); err != nil {
		return err
	}
	return checkTags(name, request.Tags)
}

// checkUser refuses a Kubernetes user that an entry of the type must not be.
func checkUser(name, kind, username string, groups []string) error {
	if kind == registry.TypeEC2Linux && (username != "" || len(groups) > 0) {
		return invalidParameter(name, "username and kubernetesGroups cannot be given for type %s", kind)
	}
	for _, group := range groups {
		if group == "" || reserved.MatchString(group) {
			return invalidParameter(name, "kubernetesGroups: %.100q: a group cannot be empty or begin with system:, eks:, aws:, amazon:, iam: or ovenbird:", group)
		}
	}
	if reserved.MatchString(username) {
		return invalidParameter(name, "username: %.100q: a name cannot begin with system:, eks:, aws:, amazon:, iam: or ovenbird:", username)
	}
	// The caller of AssumeRole chooses the session name: it must not become the whole name.
	if before, _, templated := strings.Cut(username, "{{"); templated && !strings.Contains(before, ":") {
		return invalidParameter(name, "username: %.100q: a colon must come before {{", username)
	}
	return nil
}

type updateEntryRequest struct {
	KubernetesGroups   *[]string `json:"kubernetesGroups"` // absent: they stay
	Username           string    `json:"username"`         // likewise
	ClientRequestToken string    `json:"clientRequestToken"`
}

// keptRequests is how many of an entry's latest updates can still be told from their retries.
const keptRequests = 16

func (a *api) updateAccessEntry(ctx context.Context, r *http.Request) (any, error) {
	var request updateEntryRequest
	hash, err := readJSON(r, &request)
	if err != nil {
		return nil, err
	}
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	entry, err := a.changeEntry(ctx, name, r.PathValue("principal"), func(e *registry.AccessEntry) error {
		if token := request.ClientRequestToken; token != "" {
			if i := slices.IndexFunc(e.Requests, func(earlier registry.Request) bool { return earlier.Token == token }); i >= 0 {
				if e.Requests[i].Hash != hash {
					return tokenReused(name)
				}
				return nil
			}
			e.Requests = append(e.Requests, registry.Request{Token: token, Hash: hash})
			e.Requests = e.Requests[max(0, len(e.Requests)-keptRequests):]
		}
		groups := e.Groups
		if request.KubernetesGroups != nil {
			groups = *request.KubernetesGroups
		}
		if e.Type == registry.TypeEC2Linux {
			return badRequest(name, "An access entry of type %s cannot be updated", e.Type)
		}
		if err := checkUser(name, e.Type, request.Username, groups); err != nil {
			return err
		}
		e.Groups, e.Username, e.ModifiedAt = groups, cmp.Or(request.Username, e.Username), a.Now().UTC()
		return nil
	})
	if err != nil {
		return nil, err
	}
	a.Log.Info("access entry updated", zap.String("cluster", name), zap.String("principal", entry.PrincipalARN), zap.Strings("groups", entry.Groups),
		zap.String("username", entry.Username), zap.String("caller", caller(ctx)))
	return entryOnTheWire(entry), nil
}

// entry reads the entry that a caller named.
func (a *api) entry(ctx context.Context, name, principal string) (registry.AccessEntry, error) {
	if !ownerARN.MatchString(principal) {
		return registry.AccessEntry{}, noEntry(name)
	}
	entry, err := a.Registry.GetAccessEntry(ctx, name, principal)
	if errors.Is(err, registry.ErrNotFound) {
		return registry.AccessEntry{}, noEntry(name)
	}
	return entry, err
}

func noEntry(name string) error {
	return notFound(name, "The specified principalArn could not be found. You can view your available access entries with 'list-access-entries'.")
}

func (a *api) describeAccessEntry(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	entry, err := a.entry(ctx, name, r.PathValue("principal"))
	if err != nil {
		return nil, err
	}
	return entryOnTheWire(entry), nil
}

func (a *api) listAccessEntries(ctx context.Context, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	entries, err := a.Registry.ListAccessEntries(ctx, name)
	if err != nil {
		return nil, err
	}
	shown, next, err := page(principals(entries, r.URL.Query()), r.URL.Query())
	if err != nil {
		return nil, err
	}
	return struct {
		AccessEntries []string `json:"accessEntries"`
		NextToken     string   `json:"nextToken,omitempty"`
	}{shown, next}, nil
}

// principals returns, sorted, whose entries the query asks for.
func principals(entries []registry.AccessEntry, query url.Values) []string {
	policy := query.Get("associatedPolicyArn")
	var arns []string
	for _, e := range entries {
		if _, associated := e.Policy(policy); policy == "" || associated {
			arns = append(arns, e.PrincipalARN)
		}
	}
	slices.Sort(arns)
	return arns
}

func (a *api) deleteAccessEntry(ctx context.Context, r *http.Request) (any, error) {
	name, principal := r.PathValue("name"), r.PathValue("principal")
	if _, err := a.cluster(ctx, name); err != nil {
		return nil, err
	}
	if !ownerARN.MatchString(principal) {
		return nil, noEntry(name)
	}
	err := a.Registry.DeleteAccessEntry(ctx, name, principal)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, noEntry(name)
	}
	if err != nil {
		return nil, err
	}
	a.Log.Info("access entry deleted", zap.String("cluster", name), zap.String("principal", principal), zap.String("caller", caller(ctx)))
	return struct{}{}, nil
}
