package eks

import (
	"context"
	"net/http"
)

// How much of an operation is offered.
const (
	offered    = "offered"
	inPart     = "in part"
	notOffered = "not offered"
)

// apiOperation is one operation of the EKS API. Routes and the page about compatibility
// both come from the list of them.
type apiOperation struct {
	name   string
	method string
	path   string // a pattern of http.ServeMux
	state  string
	note   string
	// handle answers; nil: the operation is refused by its name.
	handle func(a *api, ctx context.Context, r *http.Request) (any, error)
}

// operations are all that the API of Amazon EKS has, offered or not.
func operations() []apiOperation {
	all := append(clusterOperations(), accessOperations()...)
	for _, o := range [][3]string{
		{"CreateNodegroup", "POST", "/clusters/{name}/node-groups"},
		{"DeleteNodegroup", "DELETE", "/clusters/{name}/node-groups/{nodegroup}"},
		{"UpdateNodegroupConfig", "POST", "/clusters/{name}/node-groups/{nodegroup}/update-config"},
		{"UpdateNodegroupVersion", "POST", "/clusters/{name}/node-groups/{nodegroup}/update-version"},

		{"CreateAddon", "POST", "/clusters/{name}/addons"},
		{"DeleteAddon", "DELETE", "/clusters/{name}/addons/{addon}"},
		{"DescribeAddon", "GET", "/clusters/{name}/addons/{addon}"},
		{"ListAddons", "GET", "/clusters/{name}/addons"},
		{"UpdateAddon", "POST", "/clusters/{name}/addons/{addon}/update"},
		{"DescribeAddonConfiguration", "GET", "/addons/configuration-schemas"},
		{"DescribeAddonVersions", "GET", "/addons/supported-versions"},

		{"CreateFargateProfile", "POST", "/clusters/{name}/fargate-profiles"},
		{"DeleteFargateProfile", "DELETE", "/clusters/{name}/fargate-profiles/{profile}"},
		{"DescribeFargateProfile", "GET", "/clusters/{name}/fargate-profiles/{profile}"},
		{"ListFargateProfiles", "GET", "/clusters/{name}/fargate-profiles"},

		{"CreatePodIdentityAssociation", "POST", "/clusters/{name}/pod-identity-associations"},
		{"DeletePodIdentityAssociation", "DELETE", "/clusters/{name}/pod-identity-associations/{association}"},
		{"DescribePodIdentityAssociation", "GET", "/clusters/{name}/pod-identity-associations/{association}"},
		{"ListPodIdentityAssociations", "GET", "/clusters/{name}/pod-identity-associations"},
		{"UpdatePodIdentityAssociation", "POST", "/clusters/{name}/pod-identity-associations/{association}"},

		{"AssociateIdentityProviderConfig", "POST", "/clusters/{name}/identity-provider-configs/associate"},
		{"DescribeIdentityProviderConfig", "POST", "/clusters/{name}/identity-provider-configs/describe"},
		{"DisassociateIdentityProviderConfig", "POST", "/clusters/{name}/identity-provider-configs/disassociate"},
		{"ListIdentityProviderConfigs", "GET", "/clusters/{name}/identity-provider-configs"},

		{"AssociateEncryptionConfig", "POST", "/clusters/{name}/encryption-config/associate"},

		{"ActivateCertificateAuthority", "POST", "/clusters/{name}/certificate-authorities/{authority}/activate"},
		{"CreateCertificateAuthority", "POST", "/clusters/{name}/certificate-authorities"},
		{"DeleteCertificateAuthority", "DELETE", "/clusters/{name}/certificate-authorities/{authority}"},
		{"DescribeCertificateAuthority", "GET", "/clusters/{name}/certificate-authorities/{authority}"},
		{"ListCertificateAuthorities", "GET", "/clusters/{name}/certificate-authorities"},

		{"CreateCapability", "POST", "/clusters/{name}/capabilities"},
		{"DeleteCapability", "DELETE", "/clusters/{name}/capabilities/{capability}"},
		{"DescribeCapability", "GET", "/clusters/{name}/capabilities/{capability}"},
		{"ListCapabilities", "GET", "/clusters/{name}/capabilities"},
		{"UpdateCapability", "POST", "/clusters/{name}/capabilities/{capability}"},

		{"DescribeInsightsRefresh", "GET", "/clusters/{name}/insights-refresh"},
		{"StartInsightsRefresh", "POST", "/clusters/{name}/insights-refresh"},

		{"DeregisterCluster", "DELETE", "/cluster-registrations/{name}"},
		{"RegisterCluster", "POST", "/cluster-registrations"},

		{"CreateEksAnywhereSubscription", "POST", "/eks-anywhere-subscriptions"},
		{"DeleteEksAnywhereSubscription", "DELETE", "/eks-anywhere-subscriptions/{subscription}"},
		{"DescribeEksAnywhereSubscription", "GET", "/eks-anywhere-subscriptions/{subscription}"},
		{"ListEksAnywhereSubscriptions", "GET", "/eks-anywhere-subscriptions"},
		{"UpdateEksAnywhereSubscription", "POST", "/eks-anywhere-subscriptions/{subscription}"},
	} {
		all = append(all, apiOperation{name: o[0], method: o[1], path: o[2], state: notOffered})
	}
	return all
}

func clusterOperations() []apiOperation {
	return []apiOperation{
		{"CreateCluster", "POST", "/clusters", inPart, "members that ask for what is not offered are refused by name", (*api).createCluster},
		{"DescribeCluster", "GET", "/clusters/{name}", offered, "", (*api).describeCluster},
		{"ListClusters", "GET", "/clusters", offered, "there are no registered clusters to `include`", (*api).listClusters},
		{"DeleteCluster", "DELETE", "/clusters/{name}", offered, "refused while deletion protection is on or an update is in progress", (*api).deleteCluster},
		{"UpdateClusterConfig", "POST", "/clusters/{name}/update-config", inPart, "logging, authentication mode, deletion protection", (*api).updateClusterConfig},
		{"UpdateClusterVersion", "POST", "/clusters/{name}/updates", notOffered, "a cluster keeps its minor version", (*api).updateClusterVersion},
		{"DescribeUpdate", "GET", "/clusters/{name}/updates/{update}", offered, "updates of clusters", (*api).describeUpdate},
		{"ListUpdates", "GET", "/clusters/{name}/updates", offered, "updates of clusters", (*api).listUpdates},
		{"CancelUpdate", "POST", "/clusters/{name}/updates/{update}/cancel-update", inPart, "no update can be cancelled, as on EKS for these types", (*api).cancelUpdate},
		{"DescribeClusterVersions", "GET", "/cluster-versions", offered, "the versions whose components are there; all are in standard support, without dates", (*api).describeClusterVersions},

		{"ListTagsForResource", "GET", "/tags/{arn}", offered, "clusters and access entries", (*api).listTags},
		{"TagResource", "POST", "/tags/{arn}", offered, "clusters and access entries", (*api).tag},
		{"UntagResource", "DELETE", "/tags/{arn}", offered, "clusters and access entries", (*api).untag},

		{"ListInsights", "POST", "/clusters/{name}/insights", offered, "nothing is looked into yet: the list is empty", (*api).listInsights},
		{"DescribeInsight", "GET", "/clusters/{name}/insights/{insight}", offered, "there are none", (*api).describeInsight},
		{"ListNodegroups", "GET", "/clusters/{name}/node-groups", offered, "nodes join by themselves: the list is empty", (*api).listNodegroups},
		{"DescribeNodegroup", "GET", "/clusters/{name}/node-groups/{nodegroup}", offered, "there are none", (*api).describeNodegroup},
	}
}

func accessOperations() []apiOperation {
	return []apiOperation{
		{"CreateAccessEntry", "POST", "/clusters/{name}/access-entries", inPart, "types STANDARD, EC2_LINUX and EC2", (*api).createAccessEntry},
		{"DescribeAccessEntry", "GET", "/clusters/{name}/access-entries/{principal}", offered, "", (*api).describeAccessEntry},
		{"ListAccessEntries", "GET", "/clusters/{name}/access-entries", offered, "", (*api).listAccessEntries},
		{"UpdateAccessEntry", "POST", "/clusters/{name}/access-entries/{principal}", offered, "", (*api).updateAccessEntry},
		{"DeleteAccessEntry", "DELETE", "/clusters/{name}/access-entries/{principal}", offered, "", (*api).deleteAccessEntry},
		{"ListAccessPolicies", "GET", "/access-policies", offered, "the four policies for people", (*api).listAccessPolicies},
		{"AssociateAccessPolicy", "POST", "/clusters/{name}/access-entries/{principal}/access-policies", offered, "policies that ListAccessPolicies has", (*api).associateAccessPolicy},
		{"ListAssociatedAccessPolicies", "GET", "/clusters/{name}/access-entries/{principal}/access-policies", offered, "", (*api).listAssociatedPolicies},
		{"DisassociateAccessPolicy", "DELETE", "/clusters/{name}/access-entries/{principal}/access-policies/{policy}", offered, "", (*api).disassociateAccessPolicy},
	}
}

// routes answer every operation of the API; what is none, AWS calls unknown.
func (a *api) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, o := range operations() {
		mux.HandleFunc(o.method+" "+o.path, func(w http.ResponseWriter, r *http.Request) {
			if err := a.authorize(r, o.name); err != nil {
				a.fail(w, r, err)
				return
			}
			if o.handle == nil {
				a.fail(w, r, badRequest("", "%s is not offered by Ovenbird yet", o.name))
				return
			}
			a.answer(w, r, func(ctx context.Context, r *http.Request) (any, error) { return o.handle(a, ctx, r) })
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.fail(w, r, &apiError{http.StatusNotFound, "UnknownOperationException", "No operation of Amazon EKS has this method and path", ""})
	})
	return mux
}
