package ec2

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
)

// templateData is what a launch template says of instances (API reference, data types
// RequestLaunchTemplateData and ResponseLaunchTemplateData). What it has no field for the
// lab does not know.
type templateData struct {
	EBSOptimized          *bool               `json:"EbsOptimized,omitempty" xml:"ebsOptimized"`
	IAMInstanceProfile    *templateProfile    `json:"IamInstanceProfile,omitempty" xml:"iamInstanceProfile"`
	BlockDeviceMappings   []templateMapping   `json:"BlockDeviceMappings,omitempty" ec2:"BlockDeviceMapping" xml:"blockDeviceMappingSet>item"`
	NetworkInterfaces     []templateInterface `json:"NetworkInterfaces,omitempty" ec2:"NetworkInterface" xml:"networkInterfaceSet>item"`
	ImageID               string              `json:"ImageId,omitempty" xml:"imageId,omitempty"`
	InstanceType          string              `json:"InstanceType,omitempty" xml:"instanceType,omitempty"`
	Monitoring            *templateMonitoring `json:"Monitoring,omitempty" xml:"monitoring"`
	Placement             *templatePlacement  `json:"Placement,omitempty" xml:"placement"`
	ShutdownBehavior      string              `json:"InstanceInitiatedShutdownBehavior,omitempty" xml:"instanceInitiatedShutdownBehavior,omitempty"`
	UserData              string              `json:"UserData,omitempty" xml:"userData,omitempty"`
	TagSpecifications     []templateTags      `json:"TagSpecifications,omitempty" ec2:"TagSpecification" xml:"tagSpecificationSet>item"`
	SecurityGroupIDs      []string            `json:"SecurityGroupIds,omitempty" ec2:"SecurityGroupId" xml:"securityGroupIdSet>item"`
	MarketOptions         *templateMarket     `json:"InstanceMarketOptions,omitempty" xml:"instanceMarketOptions"`
	MetadataOptions       *templateMetadata   `json:"MetadataOptions,omitempty" xml:"metadataOptions"`
	PrivateDNSNameOptions *templateNames      `json:"PrivateDnsNameOptions,omitempty" xml:"privateDnsNameOptions"`
}

type templateProfile struct {
	ARN  string `json:"Arn,omitempty" xml:"arn,omitempty"`
	Name string `json:"Name,omitempty" xml:"name,omitempty"`
}

type templateMapping struct {
	DeviceName string       `json:"DeviceName,omitempty" xml:"deviceName,omitempty"`
	EBS        *templateEBS `json:"Ebs,omitempty" xml:"ebs"`
}

type templateEBS struct {
	Encrypted           *bool  `json:"Encrypted,omitempty" xml:"encrypted"`
	DeleteOnTermination *bool  `json:"DeleteOnTermination,omitempty" xml:"deleteOnTermination"`
	IOPS                *int   `json:"Iops,omitempty" xml:"iops"`
	KMSKeyID            string `json:"KmsKeyId,omitempty" xml:"kmsKeyId,omitempty"`
	VolumeSize          *int   `json:"VolumeSize,omitempty" xml:"volumeSize"`
	VolumeType          string `json:"VolumeType,omitempty" xml:"volumeType,omitempty"`
	Throughput          *int   `json:"Throughput,omitempty" xml:"throughput"`
}

type templateInterface struct {
	AssociatePublicIPAddress *bool    `json:"AssociatePublicIpAddress,omitempty" xml:"associatePublicIpAddress"`
	DeleteOnTermination      *bool    `json:"DeleteOnTermination,omitempty" xml:"deleteOnTermination"`
	Description              string   `json:"Description,omitempty" xml:"description,omitempty"`
	DeviceIndex              *int     `json:"DeviceIndex,omitempty" xml:"deviceIndex"`
	Groups                   []string `json:"Groups,omitempty" ec2:"SecurityGroupId" xml:"groupSet>groupId"`
	InterfaceType            string   `json:"InterfaceType,omitempty" xml:"interfaceType,omitempty"`
	PrivateIPAddress         string   `json:"PrivateIpAddress,omitempty" xml:"privateIpAddress,omitempty"`
	SubnetID                 string   `json:"SubnetId,omitempty" xml:"subnetId,omitempty"`
	NetworkCardIndex         *int     `json:"NetworkCardIndex,omitempty" xml:"networkCardIndex"`
}

type templateMonitoring struct {
	Enabled *bool `json:"Enabled,omitempty" xml:"enabled"`
}

type templatePlacement struct {
	AvailabilityZone string `json:"AvailabilityZone,omitempty" xml:"availabilityZone,omitempty"`
	Tenancy          string `json:"Tenancy,omitempty" xml:"tenancy,omitempty"`
}

type templateTags struct {
	ResourceType string        `json:"ResourceType,omitempty" xml:"resourceType"`
	Tags         []templateTag `json:"Tags,omitempty" ec2:"Tag" xml:"tagSet>item"`
}

type templateTag struct {
	Key   string  `json:"Key" xml:"key"`
	Value *string `json:"Value" xml:"value"`
}

type templateMarket struct {
	MarketType  string        `json:"MarketType,omitempty" xml:"marketType,omitempty"`
	SpotOptions *templateSpot `json:"SpotOptions,omitempty" xml:"spotOptions"`
}

type templateSpot struct {
	SpotInstanceType string `json:"SpotInstanceType,omitempty" xml:"spotInstanceType,omitempty"`
	Interruption     string `json:"InstanceInterruptionBehavior,omitempty" xml:"instanceInterruptionBehavior,omitempty"`
}

type templateMetadata struct {
	HTTPTokens   string `json:"HttpTokens,omitempty" xml:"httpTokens,omitempty"`
	HopLimit     *int   `json:"HttpPutResponseHopLimit,omitempty" xml:"httpPutResponseHopLimit"`
	HTTPEndpoint string `json:"HttpEndpoint,omitempty" xml:"httpEndpoint,omitempty"`
	IPv6         string `json:"HttpProtocolIpv6,omitempty" xml:"httpProtocolIpv6,omitempty"`
	InstanceTags string `json:"InstanceMetadataTags,omitempty" xml:"instanceMetadataTags,omitempty"`
}

type templateNames struct {
	HostnameType string `json:"HostnameType,omitempty" xml:"hostnameType,omitempty"`
	ARecord      *bool  `json:"EnableResourceNameDnsARecord,omitempty" xml:"enableResourceNameDnsARecord"`
	AAAARecord   *bool  `json:"EnableResourceNameDnsAAAARecord,omitempty" xml:"enableResourceNameDnsAAAARecord"`
}

// replacedBy is the data with each of its parameters that newer has too replaced as a whole,
// as a new version of a template takes over those of its source.
func (d templateData) replacedBy(newer templateData) templateData {
	from, into := reflect.ValueOf(newer), reflect.ValueOf(&d).Elem()
	for n := range from.NumField() {
		if !from.Field(n).IsZero() {
			into.Field(n).Set(from.Field(n))
		}
	}
	return d
}

// launchedWith is the data with what a request to launch says besides: its parameters come
// first, devices and tags each for themselves.
func (d templateData) launchedWith(request templateData) templateData {
	merged := d.replacedBy(request)
	merged.BlockDeviceMappings = slices.Clone(request.BlockDeviceMappings)
	for _, mapping := range d.BlockDeviceMappings {
		if !slices.ContainsFunc(merged.BlockDeviceMappings, func(m templateMapping) bool { return m.DeviceName == mapping.DeviceName }) {
			merged.BlockDeviceMappings = append(merged.BlockDeviceMappings, mapping)
		}
	}
	merged.TagSpecifications = slices.Clone(request.TagSpecifications)
	for _, own := range d.TagSpecifications {
		at := slices.IndexFunc(merged.TagSpecifications, func(s templateTags) bool { return s.ResourceType == own.ResourceType })
		if at < 0 {
			merged.TagSpecifications = append(merged.TagSpecifications, own)
			continue
		}
		spec := &merged.TagSpecifications[at]
		spec.Tags = slices.Clone(spec.Tags)
		for _, t := range own.Tags {
			if !slices.ContainsFunc(spec.Tags, func(other templateTag) bool { return other.Key == t.Key }) {
				spec.Tags = append(spec.Tags, t)
			}
		}
	}
	return merged
}

// templateData reads what a request says of a template's data, and checks what can be told
// without an instance at hand. What a launch would find elsewhere, as the image, is looked
// for at the launch, as EC2 does.
func (p *params) templateData() templateData {
	var d templateData
	p.fill("LaunchTemplateData", &d)
	if p.err == nil && reflect.ValueOf(d).IsZero() {
		p.fail(invalid("MissingParameter", "The request must contain the parameter LaunchTemplateData"))
	}
	check := p.with(spread("", d))
	check.flattenInterface()
	specification(check)
	if check.has("InstanceType") {
		instanceType(check)
	}
	for n := range d.BlockDeviceMappings {
		check.mapping(fmt.Sprintf("BlockDeviceMapping.%d", n+1))
	}
	if check.err != nil {
		p.fail(check.err)
	}
	return d
}

// with is a reader of other parameters for the same request.
func (p *params) with(values url.Values) *params {
	q := *p
	q.values, q.read, q.err = values, map[string]bool{}, nil
	return &q
}

// fromTemplate is the request to run instances with the parameters of the launch template
// that it names, if it names one, and that template.
func (s Service) fromTemplate(p *params) (*params, *template, int) {
	const by = "LaunchTemplate."
	if len(p.under(by)) == 0 {
		return p, nil, 0
	}
	idOrName := p.templateName(by)
	wanted := p.text(by + "Version")
	found, version, err := s.templateVersion(idOrName, wanted)
	if err != nil {
		p.fail(err)
		return p, nil, 0
	}
	var own templateData
	reader := p.with(p.values)
	reader.fill("", &own)
	values := spread("", version.Data.launchedWith(own))
	for name := range p.values {
		if !reader.read[name] {
			values[name] = p.values[name]
		}
	}
	merged := *p
	merged.values = values
	merged.read = maps.Clone(p.read)
	if reader.err != nil {
		merged.fail(reader.err)
	}
	return &merged, &found, version.Number
}

// flattenInterface makes of the primary network interface that a request describes the
// parameters of the instance that mean the same.
func (p *params) flattenInterface() {
	members := p.members("NetworkInterface")
	if len(members) == 0 {
		return
	}
	var primary templateInterface
	p.fill(members[0], &primary)
	for _, name := range []string{"SubnetId", "PrivateIpAddress"} {
		if p.has(name) {
			p.fail(invalid("InvalidParameterCombination", "Network interfaces and an instance-level %s may not be specified on the same request", name))
		}
	}
	if len(p.members("SecurityGroupId")) > 0 {
		p.fail(invalid("InvalidParameterCombination", "Network interfaces and an instance-level security groups may not be specified on the same request"))
	}
	switch {
	case len(members) > 1:
		p.fail(invalid("UnsupportedOperation", "The lab launches instances with one network interface, not %d.", len(members)))
	case primary.DeviceIndex == nil || *primary.DeviceIndex != 0:
		p.fail(invalid("InvalidParameterValue", "Each network interface requires a device index, and one of them has to be 0."))
	case primary.AssociatePublicIPAddress != nil && *primary.AssociatePublicIPAddress:
		p.fail(invalid("UnsupportedOperation", "The lab has no internet: AssociatePublicIpAddress cannot be true."))
	case primary.DeleteOnTermination != nil && !*primary.DeleteOnTermination:
		p.fail(invalid("UnsupportedOperation", "The lab deletes an instance's first network interface with it: DeleteOnTermination cannot be false."))
	case primary.InterfaceType != "" && primary.InterfaceType != "interface":
		p.fail(invalid("InvalidParameterValue", "Invalid value '%s' for InterfaceType. Expected one of: interface.", primary.InterfaceType))
	case primary.NetworkCardIndex != nil && *primary.NetworkCardIndex != 0:
		p.fail(invalid("InvalidParameterValue", "Invalid network card index '%d': instances of the lab have one network card.", *primary.NetworkCardIndex))
	}
	flat := spread("", templateInterface{Groups: primary.Groups, SubnetID: primary.SubnetID, PrivateIPAddress: primary.PrivateIPAddress})
	p.values = maps.Clone(p.values)
	maps.Copy(p.values, flat)
}
