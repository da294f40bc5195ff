package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Request is what a caller of the EKS API wants to do.
type Request struct {
	Operation string // "eks:CreateCluster"
	Cluster   string // that it is about; empty: none, or all
	Resource  string // ARN, or "*" where AWS knows no narrower one
}

// Policy says who may do what through the EKS API. It only allows: what no statement
// allows is denied. The zero value allows nothing.
type Policy struct{ statements []statement }

// statement is one statement as the file has it.
type statement struct {
	SID        string   `json:"sid"`
	Principals []string `json:"principals"`
	Anyone     bool     `json:"anyone"` // every principal of every AWS account
	Actions    []string `json:"actions"`
	Resources  []string `json:"resources"`
}

// ParsePolicy reads a policy file:
//
//	{"statements": [{
//	  "sid": "operators",
//	  "principals": ["arn:aws:iam::111122223333:role/operators"],
//	  "actions": ["eks:Describe*", "eks:List*"],
//	  "resources": ["*"]
//	}]}
//
// In all three lists * stands for any characters and ? for one. A principal is the ARN of a
// user or role, of a role's session (arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION), or
// arn:aws:iam::ACCOUNT:root for the whole account. Its account is always spelt out;
// "anyone": true, in the place of principals, stands for all of AWS. A resource is the name
// of a cluster, for it and all that is in it, an ARN, or * alone.
func ParsePolicy(data []byte) (Policy, error) {
	var document struct {
		Statements []statement `json:"statements"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&document); err != nil {
		return Policy{}, fmt.Errorf("not JSON of the form {\"statements\": [...]}: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Policy{}, errors.New("there is more after the first JSON object")
	}
	for i := range document.Statements {
		s := &document.Statements[i]
		if err := s.check(); err != nil {
			return Policy{}, fmt.Errorf("statement %d %q: %w", i+1, s.SID, err)
		}
	}
	return Policy{document.Statements}, nil
}

var (
	principalPattern = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|(user|role)/[\w+=,.@/*?-]+)|sts::[0-9]{12}:(assumed-role/[\w+=,.@*?-]+/[\w+=,.@*?-]+|federated-user/[\w+=,.@*?-]+))$`)
	actionPattern    = regexp.MustCompile(`^eks:[A-Za-z*?]+$`)
	clusterPattern   = regexp.MustCompile(`^[0-9A-Za-z_*?-]{1,100}$`)
	resourcePattern  = regexp.MustCompile(`^arn:aws[a-z-]*:eks:[a-z0-9*?-]*:[0-9*?]*:[\w+=,.@:/*?-]+$`)
)

// check also brings principals and actions into the form in which they are compared.
func (s *statement) check() error {
	if len(s.Actions) == 0 || len(s.Resources) == 0 || s.Anyone == (len(s.Principals) > 0) {
		return errors.New(`want principals, or "anyone": true in their place, and actions and resources`)
	}
	for i, p := range s.Principals {
		_, path, isRole := strings.Cut(p, ":role/")
		switch {
		case p == "*":
			return errors.New(`principal "*": to allow everybody with an AWS account, anywhere, write "anyone": true instead of principals`)
		case !principalPattern.MatchString(p):
			return fmt.Errorf("principal %q: want the ARN of a user, a role or a role's session, with * or ? after the account only", p)
		case isRole && strings.Contains(path, "/") && strings.ContainsAny(path, "*?"):
			return fmt.Errorf("principal %q: AWS STS does not tell the path of a role, so * and ? go with role/NAME only", p)
		}
		s.Principals[i] = registry.CanonicalPrincipal(p)
	}
	for i, action := range s.Actions {
		if !actionPattern.MatchString(action) {
			return fmt.Errorf("action %q: want eks: and the name of an operation", action)
		}
		s.Actions[i] = strings.ToLower(action) // as in IAM, where case does not count
	}
	for _, r := range s.Resources {
		if !clusterPattern.MatchString(r) && !resourcePattern.MatchString(r) {
			return fmt.Errorf("resource %q: want the name of a cluster, an ARN of Amazon EKS, or *", r)
		}
	}
	return nil
}

// Allows tells whether a statement allows the request to the caller.
func (p Policy) Allows(c Caller, r Request) bool {
	return slices.ContainsFunc(p.statements, func(s statement) bool { return s.names(c) && s.covers(r) })
}

func (s statement) names(c Caller) bool {
	canonical := registry.CanonicalPrincipal(c.CanonicalARN)
	return s.Anyone || slices.ContainsFunc(s.Principals, func(pattern string) bool {
		if account, all := strings.CutSuffix(pattern, ":root"); all {
			return strings.HasPrefix(canonical, account+":") || strings.HasPrefix(c.ARN, strings.Replace(account, ":iam:", ":sts:", 1)+":")
		}
		return matches(pattern, canonical) || matches(pattern, c.ARN)
	})
}

func (s statement) covers(r Request) bool {
	action := strings.ToLower(r.Operation)
	return slices.ContainsFunc(s.Actions, func(pattern string) bool { return matches(pattern, action) }) &&
		slices.ContainsFunc(s.Resources, func(pattern string) bool {
			if strings.HasPrefix(pattern, "arn:") {
				return matches(pattern, r.Resource)
			}
			return pattern == "*" || r.Cluster != "" && matches(pattern, r.Cluster)
		})
}

// matches compares in time that grows with the product of both lengths at most: after a
// mismatch only the last * takes one character more.
func matches(pattern, s string) bool {
	star, resume := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, resume = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0:
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}
