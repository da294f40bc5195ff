package ec2

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/vpc"
)

// maxUserData is EC2's limit, in bytes before base64.
const maxUserData = 16 << 10

// maxLaunch is how many instances one machine is asked for at once.
const maxLaunch = 20

type runInstancesResponse struct {
	XMLName   xml.Name `xml:"http://ec2.amazonaws.com/doc/2016-11-15/ RunInstancesResponse"`
	RequestID string   `xml:"requestId"`
	reservation
}

func (s Service) runInstances(p *params) (any, error) {
	launched, err := s.launch(p)
	if err != nil {
		return nil, err
	}
	r, err := s.reservation(launched)
	return runInstancesResponse{RequestID: p.id, reservation: r}, err
}

// launch carries a request to run instances out.
func (s Service) launch(p *params) ([]fleet.Instance, error) {
	sum := digest(p)
	p, template, version := s.fromTemplate(p)
	p.flattenInterface()
	image := s.image(p)
	order := specification(p)
	order.Digest = sum
	order.ClientToken = p.text("ClientToken")
	order.ImageID, order.RootDevice = image.ID, image.RootDevice
	order.Type = instanceType(p)
	order.Profile = s.profile(p)
	order.Min, order.Max = counts(p)
	subnet := s.subnet(p)
	order.SubnetID, order.Address = subnet.ID, privateAddress(p, subnet, order.Max)
	order.Groups = s.groupsOf(p, subnet)
	order.VolumeGiB, order.Volume = rootDisk(p, image)
	if template != nil {
		order.Tags = withTemplateTags(order.Tags, template.ID, version)
	}
	if err := p.done(); err != nil {
		return nil, err
	}
	var launched []fleet.Instance
	err := s.change(func(c *contents) (err error) { // nothing else takes an address meanwhile
		order.Taken = c.reserved()
		launched, err = s.Fleet.Launch(order)
		return err
	})
	switch {
	case errors.Is(err, fleet.ErrTokenReused):
		return nil, tokenReused()
	case errors.Is(err, fleet.ErrAddressInUse):
		return nil, invalid("InvalidIPAddress.InUse", "Address %s is in use.", order.Address)
	case errors.Is(err, fleet.ErrNoAddresses):
		return nil, invalid("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", subnet.ID)
	case err != nil:
		return nil, fmt.Errorf("launch instances: %w", err)
	}
	return launched, nil
}

// specification reads what of a launch can be told from the request alone.
func specification(p *params) fleet.Order {
	tags := p.tags("instance", "volume", "network-interface", "spot-instances-request")
	order := fleet.Order{
		UserData:            userData(p),
		Tags:                tags["instance"],
		VolumeTags:          tags["volume"],
		InterfaceTags:       tags["network-interface"],
		TerminateOnShutdown: p.oneOf("InstanceInitiatedShutdownBehavior", "stop", "terminate") == "terminate",
		Spot:                spot(p),
		EBSOptimized:        p.boolean("EbsOptimized"),
		Monitoring:          p.boolean("Monitoring.Enabled"),
	}
	order.MetadataTags = metadataTags(p, order.Tags)
	if order.Spot != "" {
		order.SpotTags = tags["spot-instances-request"]
	} else if tags["spot-instances-request"] != nil {
		p.fail(invalid("InvalidParameterCombination", "Tags of a Spot Instance request need a MarketType of spot"))
	}
	p.oneOf("PrivateDnsNameOptions.HostnameType", "ip-name")
	p.oneOf("PrivateDnsNameOptions.EnableResourceNameDnsARecord", "false")
	p.oneOf("PrivateDnsNameOptions.EnableResourceNameDnsAAAARecord", "false")
	p.oneOf("Placement.Tenancy", "default")
	for _, off := range []string{"DisableApiTermination", "DisableApiStop"} {
		if p.boolean(off) {
			p.fail(invalid("UnsupportedOperation", "The lab does not support %s.", off))
		}
	}
	return order
}

// withTemplateTags adds the tags that EC2 gives to what is launched from a template.
func withTemplateTags(tags map[string]string, id string, version int) map[string]string {
	all := maps.Clone(tags)
	if all == nil {
		all = map[string]string{}
	}
	all["aws:ec2launchtemplate:id"], all["aws:ec2launchtemplate:version"] = id, strconv.Itoa(version)
	return all
}

// spot reads the market options: what an interruption does, or empty for an instance on
// demand.
func spot(p *params) string {
	if p.oneOf("InstanceMarketOptions.MarketType", "", "spot") == "" {
		return ""
	}
	const options = "InstanceMarketOptions.SpotOptions."
	kind := p.oneOf(options+"SpotInstanceType", "one-time", "persistent")
	interruption := p.oneOf(options+"InstanceInterruptionBehavior", fleet.InterruptionTerminate, fleet.InterruptionStop)
	if (kind == "persistent") != (interruption == fleet.InterruptionStop) {
		p.fail(invalid("InvalidParameterCombination", "A %s Spot Instance request cannot be used with the instance interruption behavior '%s'", kind, interruption))
	}
	return interruption
}

func tokenReused() error {
	return invalid("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
}

// digest is what two requests with the same client token must agree in.
func digest(p *params) string {
	asked := maps.Clone(p.values)
	maps.DeleteFunc(asked, func(name string, _ []string) bool { return strings.HasPrefix(name, "X-Amz-") })
	sum := sha256.Sum256([]byte(asked.Encode()))
	return hex.EncodeToString(sum[:])
}

var (
	imageID    = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)
	snapshotID = regexp.MustCompile(`^snap-[0-9a-f]{8,17}$`)
	instanceID = regexp.MustCompile(`^i-[0-9a-f]{8,17}$`)
)

func (s Service) image(p *params) catalog.Image {
	id := s.resolve(p)
	image, ok := s.Catalog.Image(s.Plan.Region, id)
	switch {
	case id == "":
	case !ok:
		p.fail(invalid("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id))
	case !image.Available(s.Catalog.Now()):
		p.fail(invalid("InvalidAMIID.Unavailable", "The image ID '%s' is not available", id))
	}
	return image
}

// resolve is the ID of the image to start from, which may stand in a parameter of SSM.
func (s Service) resolve(p *params) string {
	name, ok := strings.CutPrefix(p.text("ImageId"), aliasPrefix)
	if !ok {
		return p.imageID("ImageId")
	}
	id, ok := s.alias(name)
	if !ok {
		p.fail(noAlias(name))
	}
	return id
}

// aliasPrefix comes before the name of a parameter that holds an image's ID.
const aliasPrefix = "resolve:ssm:"

// alias is the image that a parameter of SSM names.
func (s Service) alias(name string) (id string, ok bool) {
	if s.Parameter == nil {
		return "", false
	}
	id, ok = s.Parameter(s.Plan.Region, name)
	if !ok || !imageID.MatchString(id) {
		return "", false
	}
	return id, true
}

func noAlias(name string) error {
	return invalid("InvalidParameterValue", "The SSM parameter %s does not exist, or holds no image ID", name)
}

func instanceType(p *params) fleet.Type {
	name := p.required("InstanceType")
	kind, ok := fleet.FindType(name)
	if !ok && name != "" {
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for InstanceType.", name))
	}
	return kind
}

func (s Service) subnet(p *params) vpc.Subnet {
	id := p.text("SubnetId")
	zone := p.text("Placement.AvailabilityZone")
	subnet, ok := s.Plan.Subnet(id)
	switch {
	case id == "":
		p.fail(invalid("VPCIdNotSpecified", "No default VPC for this user. Name a subnet."))
	case !ok:
		p.fail(invalid("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id))
	case zone != "" && zone != subnet.Zone:
		p.fail(invalid("InvalidParameterValue", "The availability zone '%s' is not that of subnet '%s', %s.", zone, id, subnet.Zone))
	}
	return subnet
}

func counts(p *params) (least, most int) {
	p.required("MinCount")
	p.required("MaxCount")
	least, most = p.integer("MinCount", 1), p.integer("MaxCount", 1)
	switch {
	case least < 1 || most < least:
		p.fail(invalid("InvalidParameterValue", "Invalid value '%d' for MaxCount, with a MinCount of %d. Expected 1 <= MinCount <= MaxCount.", most, least))
	case least > maxLaunch:
		p.fail(invalid("InstanceLimitExceeded", "You have requested more instances (%d) than the lab starts at once (%d).", least, maxLaunch))
	}
	return least, min(most, maxLaunch)
}

func privateAddress(p *params, subnet vpc.Subnet, count int) netip.Addr {
	text := p.text("PrivateIpAddress")
	if text == "" || subnet.ID == "" {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || !addr.Is4():
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for PrivateIpAddress. Expected an IPv4 address.", text))
	case !subnet.Assignable(addr):
		p.fail(invalid("InvalidParameterValue", "Address %s does not fall within the subnet's address range, or is reserved", text))
	case count > 1:
		p.fail(invalid("InvalidParameterCombination", "The parameter PrivateIpAddress cannot be used with a MaxCount above 1"))
	}
	return addr
}

func userData(p *params) []byte {
	text := p.text("UserData")
	data, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil:
		p.fail(invalid("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data."))
	case len(data) > maxUserData:
		p.fail(invalid("InvalidParameterValue", "User data is limited to %d bytes", maxUserData))
	}
	return data
}

func (s Service) hasProfile(name string) bool { return s.Profiles != nil && s.Profiles(name) }

func (s Service) profile(p *params) string {
	name, arn := p.text("IamInstanceProfile.Name"), p.text("IamInstanceProfile.Arn")
	switch {
	case name != "" && arn != "":
		p.fail(invalid("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'"))
	case name != "" && !s.hasProfile(name):
		p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", name))
	case arn != "":
		var ok bool
		if name, ok = strings.CutPrefix(arn, s.Plan.IAM("instance-profile/")); !ok || !s.hasProfile(name) {
			p.fail(invalid("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", arn))
		}
	}
	return name
}

// tagOnMetadata is what EC2 demands of a key that the metadata service is to show.
var tagOnMetadata = regexp.MustCompile(`^[0-9a-zA-Z\-_+=,.@:]{1,255}$`)

// metadataTags reads the options of the metadata service. The lab's is always on, asks
// for a token and answers one hop away.
func metadataTags(p *params, tags map[string]string) bool {
	p.oneOf("MetadataOptions.HttpTokens", "required")
	p.oneOf("MetadataOptions.HttpEndpoint", "enabled")
	p.oneOf("MetadataOptions.HttpProtocolIpv6", "disabled")
	p.oneOf("MetadataOptions.HttpPutResponseHopLimit", "1")
	if p.oneOf("MetadataOptions.InstanceMetadataTags", "disabled", "enabled") == "disabled" {
		return false
	}
	for key := range tags {
		if !tagOnMetadata.MatchString(key) || key == "." || key == ".." || key == "_index" {
			p.fail(invalid("InvalidParameterValue", "'%s' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')", key))
		}
	}
	return true
}

// rootDisk is the size of the root volume in GiB, the image's or what is asked for, and what
// it is like.
func rootDisk(p *params, image catalog.Image) (gib int, kind fleet.VolumeKind) {
	gib = int((image.Bytes() + 1<<30 - 1) >> 30)
	kind = fleet.VolumeKind{Type: "gp3", IOPS: leastIOPS, Throughput: leastThroughput}
	for i, mapping := range p.members("BlockDeviceMapping") {
		if device := p.required(mapping + ".DeviceName"); i > 0 || device != image.RootDevice {
			p.fail(invalid("UnsupportedOperation", "The lab has one volume an instance, %s; not %s.", image.RootDevice, device))
		}
		var size int
		size, kind = p.mapping(mapping)
		switch {
		case size == 0:
			size = gib
		case size < gib:
			p.fail(invalid("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot of '%s', expect size >= %dGB", size, image.ID, gib))
		}
		gib = size
	}
	return gib, kind
}
