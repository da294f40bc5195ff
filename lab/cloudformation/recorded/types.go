package recorded

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/cloudformation/resource"
	"github.com/ovenbird-dev/ovenbird/lab/iam"
	"github.com/ovenbird-dev/ovenbird/lab/query"
)

// ResourceTypes are the types. Nothing stands behind any of them but buckets.
func (s *Store) ResourceTypes() []resource.Type {
	return slices.Concat(s.balancing(), s.keeping(), s.building())
}

func (s *Store) handle(f form) handler { return handler{s, f} }

// balancing are a load balancer and what belongs to it. No packet is balanced, and the DNS
// name of a load balancer does not resolve.
func (s *Store) balancing() []resource.Type {
	const service = "AWS::ElasticLoadBalancingV2::"
	arn := func(kind string) func(*Store, resource.Request) (string, error) {
		return func(s *Store, r resource.Request) (string, error) {
			name := text(r.Properties, "Name")
			if name == "" {
				name = r.NameWithin(32)
			}
			if len(name) > 32 {
				return "", query.Invalid("The name '%s' cannot be longer than '32' characters", name)
			}
			return s.regional("elasticloadbalancing", kind+name+"/"+digits(r.Token, 16)), nil
		}
	}
	return []resource.Type{
		{
			Name: service + "LoadBalancer", Properties: &loadBalancer{}, CreateOnly: []string{"Name", "Type", "Scheme"},
			Attributes: []string{"LoadBalancerArn", "DNSName", "LoadBalancerName", "LoadBalancerFullName", "CanonicalHostedZoneID"},
			Handler: s.handle(form{kind: service + "LoadBalancer", check: checkLoadBalancer, attribute: ofLoadBalancer,
				id: func(s *Store, r resource.Request) (string, error) {
					if text(r.Properties, "Type") == "network" {
						return arn("loadbalancer/net/")(s, r)
					}
					return arn("loadbalancer/app/")(s, r)
				}}),
		},
		{
			Name: service + "TargetGroup", Properties: &targetGroup{}, CreateOnly: []string{"TargetType", "ProtocolVersion", "Port", "Name", "VpcId", "Protocol", "IpAddressType"},
			Attributes: []string{"TargetGroupArn", "TargetGroupName", "TargetGroupFullName"},
			Handler: s.handle(form{kind: service + "TargetGroup", id: arn("targetgroup/"), attribute: func(_ *Store, id, name string) string {
				full := id[strings.LastIndex(id, ":")+1:]
				switch name {
				case "TargetGroupName":
					return strings.Split(full, "/")[1]
				case "TargetGroupFullName":
					return full
				}
				return id
			}}),
		},
		{
			Name: service + "Listener", Properties: &listener{}, Required: []string{"LoadBalancerArn", "DefaultActions"}, CreateOnly: []string{"LoadBalancerArn"},
			Attributes: []string{"ListenerArn"},
			Handler: s.handle(form{kind: service + "Listener", check: checkListener, attribute: func(_ *Store, id, _ string) string { return id },
				id: func(_ *Store, r resource.Request) (string, error) {
					return strings.Replace(text(r.Properties, "LoadBalancerArn"), ":loadbalancer/", ":listener/", 1) + "/" + digits(r.Token, 16), nil
				}}),
		},
	}
}

func checkLoadBalancer(_ *Store, properties map[string]any) error {
	subnets, _ := properties["Subnets"].([]any)
	mappings, _ := properties["SubnetMappings"].([]any)
	kind := text(properties, "Type")
	switch {
	case len(subnets) > 0 && len(mappings) > 0 || len(subnets) == 0 && len(mappings) == 0:
		return query.Invalid("You must specify either subnets or subnet mappings")
	case kind != "" && kind != "network" && kind != "application":
		return query.Invalid("The lab has load balancers of the types network and application, not %s", kind)
	case kind != "network" && len(subnets)+len(mappings) < 2:
		return query.Invalid("At least two subnets in two different Availability Zones must be specified")
	}
	return nil
}

func ofLoadBalancer(s *Store, id, name string) string {
	full := strings.TrimPrefix(id[strings.LastIndex(id, ":")+1:], "loadbalancer/")
	parts := strings.Split(full, "/") // net, the name, what is random
	switch name {
	case "LoadBalancerName":
		return parts[1]
	case "LoadBalancerFullName":
		return full
	case "DNSName":
		return parts[1] + "-" + parts[2] + ".elb." + s.Plan.Region + ".amazonaws.com"
	case "CanonicalHostedZoneID":
		return "Z18D5FSROUN65G" // of network load balancers in us-west-2
	}
	return id
}

func checkListener(s *Store, properties map[string]any) error {
	if arn := text(properties, "LoadBalancerArn"); !s.has("AWS::ElasticLoadBalancingV2::LoadBalancer", arn) {
		return query.Refuse("LoadBalancerNotFound", "Load balancer '%s' not found", arn)
	}
	actions, _ := properties["DefaultActions"].([]any)
	for _, v := range actions {
		action, _ := v.(map[string]any)
		if arn := text(action, "TargetGroupArn"); arn != "" && !s.has("AWS::ElasticLoadBalancingV2::TargetGroup", arn) {
			return query.Refuse("TargetGroupNotFound", "Target group '%s' not found", arn)
		}
	}
	return nil
}

// keeping are buckets and keys. No service answers for keys: nothing can be encrypted with one.
func (s *Store) keeping() []resource.Type {
	return []resource.Type{
		{
			Name: "AWS::S3::Bucket", Properties: &bucket{}, CreateOnly: []string{"BucketName"},
			Attributes: []string{"Arn", "DomainName", "RegionalDomainName"},
			Handler: s.handle(form{kind: "AWS::S3::Bucket", id: bucketName, real: s.Buckets, attribute: func(s *Store, id, name string) string {
				switch name {
				case "DomainName":
					return id + ".s3.amazonaws.com"
				case "RegionalDomainName":
					return id + ".s3." + s.Plan.Region + ".amazonaws.com"
				}
				return "arn:" + s.Plan.Partition + ":s3:::" + id
			}}),
		},
		{
			Name: "AWS::S3::BucketPolicy", Properties: &bucketPolicy{}, Required: []string{"Bucket", "PolicyDocument"}, CreateOnly: []string{"Bucket"},
			Handler: s.handle(form{kind: "AWS::S3::BucketPolicy", check: checkDocument("PolicyDocument"),
				id: func(s *Store, r resource.Request) (string, error) {
					name := text(r.Properties, "Bucket")
					if !s.hasBucket(name) {
						return "", query.Refuse("NoSuchBucket", "The specified bucket does not exist: %s", name)
					}
					return name, nil
				}}),
		},
		{
			Name: "AWS::KMS::Key", Properties: &key{}, Attributes: []string{"Arn", "KeyId"},
			Handler: s.handle(form{kind: "AWS::KMS::Key", check: checkDocument("KeyPolicy"),
				id: func(_ *Store, r resource.Request) (string, error) {
					d := digits(r.Token, 32)
					return strings.Join([]string{d[:8], d[8:12], d[12:16], d[16:20], d[20:]}, "-"), nil
				},
				attribute: func(s *Store, id, name string) string {
					if name == "KeyId" {
						return id
					}
					return s.regional("kms", "key/"+id)
				}}),
		},
		{
			Name: "AWS::KMS::Alias", Properties: &alias{}, Required: []string{"AliasName", "TargetKeyId"}, CreateOnly: []string{"AliasName"},
			Handler: s.handle(form{kind: "AWS::KMS::Alias", check: checkAlias, id: named("AliasName", 256)}),
		},
	}
}

func (s *Store) hasBucket(name string) bool {
	if s.Buckets != nil {
		return s.Buckets.Has(name)
	}
	return s.has("AWS::S3::Bucket", name)
}

// bucketName is in lower case, and of 63 characters at most.
func bucketName(s *Store, r resource.Request) (string, error) {
	name := text(r.Properties, "BucketName")
	if name == "" {
		name = strings.ToLower(r.NameWithin(63))
	}
	if len(name) < 3 || len(name) > 63 || strings.ToLower(name) != name || strings.Trim(name, "-.") != name {
		return "", query.Invalid("Bucket name is invalid: %s", name)
	}
	return name, nil
}

// checkDocument holds a property to the grammar of policies on resources.
func checkDocument(property string) func(*Store, map[string]any) error {
	return func(_ *Store, properties map[string]any) error {
		document, ok := properties[property]
		if !ok {
			return nil
		}
		if err := iam.CheckDocument(document, iam.Resource); err != nil {
			return fmt.Errorf("%s: %w", property, err)
		}
		return nil
	}
}

func checkAlias(s *Store, properties map[string]any) error {
	name, target := text(properties, "AliasName"), text(properties, "TargetKeyId")
	switch {
	case !strings.HasPrefix(name, "alias/") || strings.HasPrefix(name, "alias/aws/"):
		return query.Invalid("Alias must start with the prefix \"alias/\", and not \"alias/aws/\": %s", name)
	case !s.has("AWS::KMS::Key", strings.TrimPrefix(target, s.regional("kms", "key/"))):
		return query.Refuse("NotFoundException", "Key '%s' does not exist", target)
	}
	return nil
}

// building are builds and what starts them. None ever begins.
func (s *Store) building() []resource.Type {
	return []resource.Type{
		{
			Name: "AWS::CodeBuild::Project", Properties: &project{}, Required: []string{"Artifacts", "ServiceRole", "Environment", "Source"}, CreateOnly: []string{"Name"},
			Attributes: []string{"Arn"},
			Handler: s.handle(form{kind: "AWS::CodeBuild::Project", id: named("Name", 150),
				attribute: func(s *Store, id, _ string) string { return s.regional("codebuild", "project/"+id) }}),
		},
		{
			Name: "AWS::Scheduler::Schedule", Properties: &schedule{}, Required: []string{"FlexibleTimeWindow", "ScheduleExpression", "Target"}, CreateOnly: []string{"Name"},
			Attributes: []string{"Arn"},
			Handler: s.handle(form{kind: "AWS::Scheduler::Schedule", check: checkSchedule, id: named("Name", 64),
				attribute: func(s *Store, id, _ string) string { return s.regional("scheduler", "schedule/default/"+id) }}),
		},
	}
}

func checkSchedule(_ *Store, properties map[string]any) error {
	expression := text(properties, "ScheduleExpression")
	for _, form := range []string{"cron(", "rate(", "at("} {
		if strings.HasPrefix(expression, form) && strings.HasSuffix(expression, ")") {
			return nil
		}
	}
	return query.Invalid("Invalid Schedule Expression %s.", expression)
}
