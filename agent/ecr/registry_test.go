package ecr

import "testing"

// TestTheRegistryIsInTheImagesName has each form of host that AWS's SDKs have for the API.
func TestTheRegistryIsInTheImagesName(t *testing.T) {
	for host, want := range map[string]struct{ region, api string }{
		"111122223333.dkr.ecr.us-west-2.amazonaws.com":                     {"us-west-2", "api.ecr.us-west-2.amazonaws.com"},
		"111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn":                 {"cn-north-1", "api.ecr.cn-north-1.amazonaws.com.cn"},
		"111122223333.dkr.ecr.eusc-de-east-1.amazonaws.eu":                 {"eusc-de-east-1", "api.ecr.eusc-de-east-1.amazonaws.eu"},
		"111122223333.dkr.ecr-fips.us-gov-west-1.amazonaws.com":            {"us-gov-west-1", "ecr-fips.us-gov-west-1.amazonaws.com"},
		"111122223333.dkr.ecr-fips.us-east-1.amazonaws.com":                {"us-east-1", "ecr-fips.us-east-1.amazonaws.com"},
		"111122223333.dkr.ecr-fips.cn-north-1.amazonaws.com.cn":            {"cn-north-1", "api.ecr-fips.cn-north-1.amazonaws.com.cn"},
		"111122223333.dkr-ecr-fips.cn-north-1.on.amazonwebservices.com.cn": {"cn-north-1", "api.ecr-fips.cn-north-1.api.amazonwebservices.com.cn"},
		"111122223333.dkr.ecr-fips.us-iso-east-1.c2s.ic.gov":               {"us-iso-east-1", "api.ecr-fips.us-iso-east-1.c2s.ic.gov"},
		"111122223333.dkr.ecr-fips.us-isob-east-1.sc2s.sgov.gov":           {"us-isob-east-1", "api.ecr-fips.us-isob-east-1.sc2s.sgov.gov"},
		"111122223333.dkr-ecr.us-gov-west-1.on.aws":                        {"us-gov-west-1", "ecr.us-gov-west-1.api.aws"},
		"111122223333.dkr-ecr-fips.us-gov-east-1.on.aws":                   {"us-gov-east-1", "ecr-fips.us-gov-east-1.api.aws"},
		"111122223333.dkr-ecr.us-west-2.on.aws":                            {"us-west-2", "ecr.us-west-2.api.aws"},
		"111122223333.dkr-ecr-fips.us-east-1.on.aws":                       {"us-east-1", "ecr-fips.us-east-1.api.aws"},
		"111122223333.dkr-ecr.cn-northwest-1.on.amazonwebservices.com.cn":  {"cn-northwest-1", "ecr.cn-northwest-1.api.amazonwebservices.com.cn"},
		"111122223333.dkr.ecr.us-iso-east-1.c2s.ic.gov":                    {"us-iso-east-1", "api.ecr.us-iso-east-1.c2s.ic.gov"},
		"111122223333.dkr.ecr.us-isob-east-1.sc2s.sgov.gov":                {"us-isob-east-1", "api.ecr.us-isob-east-1.sc2s.sgov.gov"},
	} {
		got, err := RegistryOf(host + "/team/app@sha256:0123")
		if err != nil || got != (Registry{Host: host, ID: "111122223333", Region: want.region, api: want.api}) {
			t.Errorf("%s: got %+v, %v", host, got, err)
		}
	}
}

func TestOtherRegistriesAreRefused(t *testing.T) {
	for _, image := range []string{
		"", "nginx", "docker.io/library/nginx", "public.ecr.aws/eks-distro/pause:3.10",
		"11112222333.dkr.ecr.us-west-2.amazonaws.com/app",
		"111122223333.dkr.ecr.us-west-2.amazonaws.com.example.com/app",
		"111122223333.dkr.ecr.evil.com/x.amazonaws.com/app",
		"111122223333.dkr.ecr.us-west-2#.amazonaws.com/app",
		"111122223333.dkr.ecr.us-west-2.amazonaws.com:8443/app",
		"user@111122223333.dkr.ecr.us-west-2.amazonaws.com/app",
		"111122223333.dkr.ecr.us-west-2.on.aws/app",
		"111122223333.dkr-ecr.us-west-2.amazonaws.com/app",
	} {
		if got, err := RegistryOf(image); err == nil {
			t.Errorf("%s: got %+v", image, got)
		}
	}
}
