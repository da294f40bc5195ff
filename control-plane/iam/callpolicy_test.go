package iam

import (
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/internal/ststoken"
)

// as is a caller whom STS, or a credentials file, names so.
func as(arn string) Caller {
	return Caller{NewPrincipal(ststoken.Identity{ARN: arn}), ProofBearer}
}

func on(operation, cluster string) Request {
	return Request{Operation: "eks:" + operation, Cluster: cluster, Resource: "arn:aws:eks:us-west-2:111122223333:cluster/" + cluster}
}

const (
	operators = "arn:aws:iam::111122223333:role/operators"
	jane      = "arn:aws:sts::111122223333:assumed-role/operators/jane"
)

func allow(t *testing.T, principal, action, resource string) Policy {
	t.Helper()
	policy, err := ParsePolicy([]byte(`{"statements":[{"sid":"test","principals":["` + principal + `"],"actions":["` + action + `"],"resources":["` + resource + `"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

func TestAPolicyAllowsWhatAStatementSaysAndNothingElse(t *testing.T) {
	describe := on("DescribeCluster", "blue")
	entry := Request{"eks:DescribeAccessEntry", "blue", "arn:aws:eks:us-west-2:111122223333:access-entry/blue/role/111122223333/node/*"}
	list := Request{Operation: "eks:ListClusters", Resource: "*"}
	tests := []struct {
		name                        string
		principal, action, resource string
		caller                      string
		request                     Request
		want                        bool
	}{
		{"a role by its ARN", operators, "eks:DescribeCluster", "blue", jane, describe, true},
		{"a role by its ARN with a path, which STS does not tell", "arn:aws:iam::111122223333:role/team/operators", "eks:*", "*", jane, describe, true},
		{"a role with a path in the credentials file", operators, "eks:*", "*", "arn:aws:iam::111122223333:role/team/operators", describe, true},
		{"a session", jane, "eks:*", "*", jane, describe, true},
		{"another session", jane, "eks:*", "*", jane + "t", describe, false},
		{"any session by a glob", "arn:aws:sts::111122223333:assumed-role/operators/*", "eks:*", "*", jane, describe, true},
		{"a role by a glob", "arn:aws:iam::111122223333:role/oper*", "eks:*", "*", jane, describe, true},
		{"another role", "arn:aws:iam::111122223333:role/operator", "eks:*", "*", jane, describe, false},
		{"the role of another account", "arn:aws:iam::444455556666:role/operators", "eks:*", "*", jane, describe, false},
		{"the role of another partition", "arn:aws-cn:iam::111122223333:role/operators", "eks:*", "*", jane, describe, false},
		{"a user below a path", "arn:aws:iam::111122223333:user/team/*", "eks:*", "*", "arn:aws:iam::111122223333:user/team/a/jane", describe, true},
		{"a user beside the path", "arn:aws:iam::111122223333:user/team/*", "eks:*", "*", "arn:aws:iam::111122223333:user/teamjane", describe, false},
		{"a user is no role of the same name", "arn:aws:iam::111122223333:user/operators", "eks:*", "*", jane, describe, false},
		{"the whole account, a session", "arn:aws:iam::111122223333:root", "eks:*", "*", jane, describe, true},
		{"the whole account, a user", "arn:aws:iam::111122223333:root", "eks:*", "*", "arn:aws:iam::111122223333:user/jane", describe, true},
		{"the whole account, another one's session", "arn:aws:iam::111122223333:root", "eks:*", "*", strings.Replace(jane, "1111", "4444", 1), describe, false},

		{"an action in another case", operators, "eks:describecluster", "*", jane, describe, true},
		{"an action by a glob", operators, "eks:Describe*", "*", jane, describe, true},
		{"another action", operators, "eks:List*", "*", jane, describe, false},
		{"an action that only begins so", operators, "eks:Describe", "*", jane, describe, false},

		{"another cluster", operators, "eks:*", "green", jane, describe, false},
		{"a cluster by a glob", operators, "eks:*", "bl?e", jane, describe, true},
		{"a cluster by its ARN", operators, "eks:*", describe.Resource, jane, describe, true},
		{"clusters by an ARN with a glob", operators, "eks:*", "arn:aws:eks:*:111122223333:cluster/b*", jane, describe, true},
		{"the same name in another region", operators, "eks:*", "arn:aws:eks:us-east-1:111122223333:cluster/blue", jane, describe, false},
		{"what is in a cluster, by its name", operators, "eks:*", "blue", jane, entry, true},
		{"what is in a cluster, not by the cluster's ARN", operators, "eks:*", describe.Resource, jane, entry, false},
		{"access entries by their ARN", operators, "eks:*", "arn:aws:eks:us-west-2:111122223333:access-entry/blue/*", jane, entry, true},
		{"a list is of everything", operators, "eks:ListClusters", "*", jane, list, true},
		{"a list is not of some clusters", operators, "eks:ListClusters", "b*", jane, list, false},
		{"a list is not of some ARNs", operators, "eks:ListClusters", "arn:aws:eks:us-west-2:111122223333:cluster/*", jane, list, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := allow(t, tt.principal, tt.action, tt.resource).Allows(as(tt.caller), tt.request); got != tt.want {
				t.Errorf("allowed: %t", got)
			}
		})
	}
	if (Policy{}).Allows(as(jane), describe) {
		t.Error("no policy allows something")
	}
	anyone, err := ParsePolicy([]byte(`{"statements":[{"anyone":true,"actions":["eks:DescribeCluster"],"resources":["blue"]}]}`))
	if err != nil || !anyone.Allows(as("arn:aws:iam::999999999999:user/x"), describe) {
		t.Errorf("anyone: %v", err)
	}
}

func TestAPolicyThatSaysTooMuchOrTooLittleIsRefused(t *testing.T) {
	statement := func(principals, actions, resources string) string {
		return `{"statements":[{"principals":` + principals + `,"actions":` + actions + `,"resources":` + resources + `}]}`
	}
	principal := func(p string) string { return statement(`["`+p+`"]`, `["eks:*"]`, `["*"]`) }
	for name, test := range map[string]struct{ policy, want string }{
		"no JSON":                        {"statements:", "not JSON"},
		"a member that does not exist":   {`{"statements":[{"effect":"Deny"}]}`, "effect"},
		"a second document":              {statement(`["`+jane+`"]`, `["eks:*"]`, `["*"]`) + "{}", "more after"},
		"everybody by a star":            {principal("*"), `"anyone": true`},
		"everybody and somebody":         {`{"statements":[{"anyone":true,"principals":["` + jane + `"],"actions":["eks:*"],"resources":["*"]}]}`, "in their place"},
		"nobody":                         {statement(`[]`, `["eks:*"]`, `["*"]`), "want principals"},
		"no action":                      {statement(`["`+jane+`"]`, `[]`, `["*"]`), "actions"},
		"no resource":                    {statement(`["`+jane+`"]`, `["eks:*"]`, `[]`), "resources"},
		"any account":                    {principal("arn:aws:iam::*:role/x"), "after the account"},
		"any kind of principal":          {principal("arn:aws:iam::111122223333:*"), "after the account"},
		"a role's path with a glob":      {principal("arn:aws:iam::111122223333:role/team/*"), "path of a role"},
		"a session without a role":       {principal("arn:aws:sts::111122223333:assumed-role/*"), "want the ARN"},
		"an account number":              {principal("111122223333"), "want the ARN"},
		"an action of another service":   {statement(`["`+jane+`"]`, `["ec2:*"]`, `["*"]`), "action"},
		"every action of every service":  {statement(`["`+jane+`"]`, `["*"]`, `["*"]`), "action"},
		"a resource of another service":  {statement(`["`+jane+`"]`, `["eks:*"]`, `["arn:aws:s3:::x"]`), "resource"},
		"a resource that can be no name": {statement(`["`+jane+`"]`, `["eks:*"]`, `["cluster/blue"]`), "resource"},
	} {
		if _, err := ParsePolicy([]byte(test.policy)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}

func TestGlobs(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "", false}, {"a*c", "abbc", true}, {"a*c", "abcb", false},
		{"*a*b*", "xxaxxbxx", true}, {"**", "x", true}, {"a?", "a", false}, {"a*", "b", false}, {"*ab", "aab", true}, {"[a]", "a", false},
		{strings.Repeat("*a", 200), strings.Repeat("a", 5000) + "b", false},
	} {
		if got := matches(tt.pattern, tt.s); got != tt.want {
			t.Errorf("%.20q with %.20q: %t", tt.pattern, tt.s, got)
		}
	}
}
