package trial

import (
	"fmt"
	"net/http"
)

// Subnets are what a cluster can be created in: two zones of one VPC.
var subnets = []struct{ id, zone, cidr string }{
	{"subnet-0aaaaaaaaaaaaaaaa", region + "a", "10.0.0.0/20"},
	{"subnet-0bbbbbbbbbbbbbbbb", region + "b", "10.0.16.0/20"},
}

const vpcID = "vpc-0a1b2c3d4e5f60718"

// answerEC2 speaks as much of EC2's query protocol as CreateCluster needs.
func answerEC2(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	var items string
	switch action {
	case "DescribeSubnets":
		for _, s := range subnets {
			items += fmt.Sprintf("<item><subnetId>%s</subnetId><vpcId>%s</vpcId><availabilityZone>%s</availabilityZone><cidrBlock>%s</cidrBlock><state>available</state></item>",
				s.id, vpcID, s.zone, s.cidr)
		}
		items = "<subnetSet>" + items + "</subnetSet>"
	case "DescribeVpcs":
		items = "<vpcSet><item><vpcId>" + vpcID + "</vpcId><cidrBlock>10.0.0.0/16</cidrBlock><state>available</state></item></vpcSet>"
	case "DescribeInstances":
		items = "<reservationSet/>"
	default:
		http.Error(w, "the stand-in for EC2 knows no "+action, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	//nolint:gosec // the action is one of those above
	fmt.Fprintf(w, `<%sResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>trial</requestId>%s</%sResponse>`, action, items, action)
}
