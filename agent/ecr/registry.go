package ecr

import (
	"fmt"
	"regexp"
	"strings"
)

// Registry is an account's private registry in a region.
type Registry struct {
	Host   string // the image's, which the credentials are for
	ID     string // the account, 12 digits
	Region string

	api string // where its API is, a host
}

// host is what cloud-provider-aws takes for a registry of ECR: dkr.ecr, dkr-ecr where it
// has IPv6 too, -fips for either, and the DNS suffixes of every partition. It is compiled
// where it is used: most runs of the agent have no use for it.
const host = `^([0-9]{12})\.dkr([.-])ecr(-fips)?\.([a-z0-9][a-z0-9-]*)\.` +
	`(amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|on\.aws|on\.amazonwebservices\.com\.cn|` +
	`c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`

// RegistryOf returns the registry that the name of an image begins with. It is an error if
// that is none of ECR's private ones.
func RegistryOf(image string) (Registry, error) {
	name, _, _ := strings.Cut(image, "/")
	match := regexp.MustCompile(host).FindStringSubmatch(name)
	if match == nil {
		return Registry{}, fmt.Errorf("the image %q is in no private registry of Amazon ECR (want ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME)", image)
	}
	separator, fips, region, suffix := match[2], match[3], match[4], match[5]
	dualStack := strings.HasPrefix(suffix, "on.")
	if dualStack != (separator == "-") {
		return Registry{}, fmt.Errorf("the image %q is in no private registry of Amazon ECR: dkr-ecr goes with on.aws, dkr.ecr with the other suffixes", image)
	}
	if dualStack {
		suffix = "api." + strings.TrimPrefix(suffix, "on.")
	}
	return Registry{Host: name, ID: match[1], Region: region, api: service(dualStack, fips != "", suffix) + "." + region + "." + suffix}, nil
}

// service returns what the API's host begins with. That and the suffixes are those of the
// endpoint tests that AWS's SDKs have for ECR (of AmazonECREndpointProvider in the one for
// .NET). service/ecr 1.24 of the one for Go still had api.ecr for dual-stack.
func service(dualStack, fips bool, suffix string) string {
	switch {
	case fips && (suffix == "amazonaws.com" || suffix == "api.aws"):
		return "ecr-fips"
	case fips:
		return "api.ecr-fips"
	case dualStack:
		return "ecr"
	}
	return "api.ecr"
}
