package operator

import (
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
	Tags                 map[string]string `json:"tags,omitempty"`
	Issues               []string          `json:"issues,omitempty"`
}

func view(c *types.Cluster) clusterView {
	v := clusterView{
		Name: aws.ToString(c.Name), ARN: aws.ToString(c.Arn), Status: string(c.Status), Version: aws.ToString(c.Version),
		PlatformVersion: aws.ToString(c.PlatformVersion), CreatedAt: aws.ToTime(c.CreatedAt), Endpoint: aws.ToString(c.Endpoint), Tags: c.Tags,
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
	if c.Health != nil {
		for _, issue := range c.Health.Issues {
			v.Issues = append(v.Issues, aws.ToString(issue.Message))
		}
	}
	return v
}

func clusterTable(clusters ...*types.Cluster) func(io.Writer) error {
	return func(w io.Writer) error {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tSTATUS\tVERSION\tENDPOINT")
		for _, c := range clusters {
			v := view(c)
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", v.Name, v.Status, v.Version, orDash(v.Endpoint))
		}
		return table.Flush()
	}
}

func clusterDetails(c *types.Cluster) func(io.Writer) error {
	return func(w io.Writer) error {
		v := view(c)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		row := func(name, value string) { fmt.Fprintf(table, "%s\t%s\n", name, orDash(value)) }
		row("name", v.Name)
		row("arn", v.ARN)
		row("status", v.Status)
		for _, issue := range v.Issues {
			row("issue", issue)
		}
		row("version", v.Version+" ("+v.PlatformVersion+")")
		row("created", v.CreatedAt.Local().Format(time.RFC3339))
		row("endpoint", v.Endpoint)
		row("vpc", v.VPCID)
		row("subnets", strings.Join(v.SubnetIDs, ", "))
		row("services", v.ServiceIPv4CIDR)
		for _, key := range slices.Sorted(maps.Keys(v.Tags)) {
			row("tag", key+"="+v.Tags[key])
		}
		return table.Flush()
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
