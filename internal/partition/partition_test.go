package partition

import "testing"

func TestARegionBelongsToOnePartition(t *testing.T) {
	for region, want := range map[string][2]string{
		"us-west-2":       {"aws", "amazonaws.com"},
		"us-gov-east-1":   {"aws-us-gov", "amazonaws.com"},
		"cn-north-1":      {"aws-cn", "amazonaws.com.cn"},
		"us-iso-east-1":   {"aws-iso", "c2s.ic.gov"},
		"us-isob-east-1":  {"aws-iso-b", "sc2s.sgov.gov"},
		"eu-isoe-west-1":  {"aws-iso-e", "cloud.adc-e.uk"},
		"us-isof-south-1": {"aws-iso-f", "csp.hci.ic.gov"},
		"eusc-de-east-1":  {"aws-eusc", "amazonaws.eu"},
		"mars-1":          {"aws", "amazonaws.com"},
	} {
		if p := Of(region); p.Name != want[0] || p.DNSSuffix != want[1] {
			t.Errorf("%s: got %+v, want %v", region, p, want)
		}
	}
}

func TestAHostOfAnyPartitionIsKnownByItsSuffix(t *testing.T) {
	for host, want := range map[string]bool{
		"x.eks.amazonaws.com":    true,
		"x.eks.amazonaws.com.cn": true,
		"x.eks.amazonaws.eu":     true,
		"x.ec2.amazonaws.com":    false,
		"eks.amazonaws.com.evil": false,
	} {
		if got := HasSuffix(host, ".eks."); got != want {
			t.Errorf("%s: %t", host, got)
		}
	}
}
