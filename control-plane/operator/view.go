package operator

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
)

// clusterView is a cluster as --output json prints it, in the API's words.
type clusterView struct {
	Name                 string            `json:"name"`
	ARN                  string            `json:"arn"`
	Status               string            `json:"status"`
	Version              string            `json:"version"`
	PlatformVersion      string            `json:"platformVersion"`
	CreatedAt            time.Time         `json:"createdAt"`
	Endpoint             string            `json:"endpoint,omitempty"`
	CertificateAuthority string            `json:"certificateAuthority,omitempty"`
	VPCID                string            `json:"vpcId"`
	SubnetIDs            []string          `json:"subnetIds"`
	ServiceIPv4CIDR      string            `json:"serviceIpv4Cidr"`
	AuthenticationMode   string            `json:"authenticationMode"`
	Logging              []string          `json:"logging"` // the types that are on
	DeletionProtection   bool              `json:"deletionProtection"`
	Issuer               string            `json:"issuer,omitempty"`
	Tags                 map[string]string `json:"tags,omitempty"`
	Issues               []string          `json:"issues,omitempty"`
}

func view(c *types.Cluster) clusterView {
	v := clusterView{
		Name: aws.ToString(c.Name), ARN: aws.ToString(c.Arn), Status: string(c.Status), Version: aws.ToString(c.Version),
		PlatformVersion: aws.ToString(c.PlatformVersion), CreatedAt: aws.ToTime(c.CreatedAt), Endpoint: aws.ToString(c.Endpoint), Tags: c.Tags,
		Logging: enabledLogs(c.Logging), DeletionProtection: aws.ToBool(c.DeletionProtection),
	}
	if c.CertificateAuthority != nil {
		v.CertificateAuthority = aws.ToString(c.CertificateAuthority.Data)
	}
	if c.ResourcesVpcConfig != nil {
		v.VPCID, v.SubnetIDs = aws.ToString(c.ResourcesVpcConfig.VpcId), c.ResourcesVpcConfig.SubnetIds
	}
	if c.KubernetesNetworkConfig != nil {
		v.ServiceIPv4CIDR = aws.ToString(c.KubernetesNetworkConfig.ServiceIpv4Cidr)
	}
	if c.AccessConfig != nil {
		v.AuthenticationMode = string(c.AccessConfig.AuthenticationMode)
	}
	if c.Identity != nil && c.Identity.Oidc != nil {
		v.Issuer = aws.ToString(c.Identity.Oidc.Issuer)
	}
	if c.Health != nil {
		for _, issue := range c.Health.Issues {
			v.Issues = append(v.Issues, aws.ToString(issue.Message))
		}
	}
	return v
}

func enabledLogs(logging *types.Logging) []string {
	enabled := []string{}
	if logging == nil {
		return enabled
	}
	for _, setup := range logging.ClusterLogging {
		for _, kind := range setup.Types {
			if aws.ToBool(setup.Enabled) {
				enabled = append(enabled, string(kind))
			}
		}
	}
	return enabled
}

func clusterTable(clusters ...*types.Cluster) func(io.Writer) error {
	rows := [][]string{{"NAME", "STATUS", "VERSION", "ENDPOINT"}}
	for _, c := range clusters {
		v := view(c)
		rows = append(rows, []string{v.Name, v.Status, v.Version, v.Endpoint})
	}
	return table(rows...)
}

func clusterDetails(c *types.Cluster) func(io.Writer) error {
	v := view(c)
	rows := [][]string{{"name", v.Name}, {"arn", v.ARN}, {"status", v.Status}}
	for _, issue := range v.Issues {
		rows = append(rows, []string{"issue", issue})
	}
	rows = append(rows, [][]string{
		{"version", v.Version + " (" + v.PlatformVersion + ")"},
		{"created", local(v.CreatedAt)},
		{"endpoint", v.Endpoint},
		{"vpc", v.VPCID},
		{"subnets", strings.Join(v.SubnetIDs, ", ")},
		{"services", v.ServiceIPv4CIDR},
		{"issuer", v.Issuer},
		{"authentication", v.AuthenticationMode},
		{"logging", strings.Join(v.Logging, ", ")},
		{"deletion protection", onOff(v.DeletionProtection)},
	}...)
	return table(append(rows, tagRows(v.Tags)...)...)
}

func tagRows(tags map[string]string) [][]string {
	var rows [][]string
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		rows = append(rows, []string{"tag", key + "=" + tags[key]})
	}
	return rows
}

// table prints rows in columns, and a dash for what is empty.
func table(rows ...[]string) func(io.Writer) error {
	return func(w io.Writer) error {
		columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range rows {
			for i, cell := range row {
				row[i] = cmp.Or(cell, "-")
			}
			fmt.Fprintln(columns, strings.Join(row, "\t"))
		}
		return columns.Flush()
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func local(t time.Time) string { return t.Local().Format(time.RFC3339) }
