package component

import _ "embed"

// auditPolicy follows what Amazon EKS records, and never records the body of a Secret, a
// ConfigMap or a token.
//
//go:embed audit-policy.yaml
var auditPolicy []byte

// audit are the flags that make the API server write an audit log; without one, none.
func (c Cluster) audit() ([]string, []File) {
	if c.AuditLog == "" {
		return nil, nil
	}
	policy := c.file("audit-policy.yaml")
	return []string{
		option("audit-policy-file", policy),
		option("audit-log-path", c.AuditLog),
		option("audit-log-format", "json"),
		// At most 1.1 GB a cluster, and nothing older than a month.
		option("audit-log-maxsize", 100),
		option("audit-log-maxbackup", 10),
		option("audit-log-maxage", 30),
	}, []File{{policy, 0o600, auditPolicy}}
}
