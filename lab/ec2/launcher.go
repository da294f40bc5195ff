package ec2

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/ovenbird-dev/ovenbird/internal/sigv4"
	"github.com/ovenbird-dev/ovenbird/lab/autoscaling"
	"github.com/ovenbird-dev/ovenbird/lab/fleet"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// Launcher launches the instances of Auto Scaling's groups. It implements
// autoscaling.Launcher; its errors carry EC2's codes and words.
type Launcher struct{ Service Service }

// Resolve implements autoscaling.Launcher.
func (l Launcher) Resolve(idOrName, version string) (autoscaling.LaunchTemplate, error) {
	t, v, err := l.Service.templateVersion(idOrName, version)
	if err != nil {
		return autoscaling.LaunchTemplate{}, err
	}
	return autoscaling.LaunchTemplate{ID: t.ID, Name: t.Name, Version: v.Number, InstanceType: v.Data.InstanceType}, nil
}

// Launch implements autoscaling.Launcher. A token that has launched an instance gives that one
// whatever has become of the template since.
func (l Launcher) Launch(_ context.Context, launch autoscaling.Launch) (fleet.Instance, error) {
	for _, i := range l.Service.Fleet.Instances() {
		if launch.Token != "" && i.ClientToken == launch.Token {
			return i, nil
		}
	}
	_, version, err := l.Service.templateVersion(launch.Template.ID, strconv.Itoa(launch.Template.Version))
	if err != nil {
		return fleet.Instance{}, err
	}
	request := templateData{InstanceType: launch.Type, TagSpecifications: instanceTags(launch.Tags)}
	if launch.Spot {
		request.MarketOptions = &templateMarket{MarketType: "spot"}
	}
	values := spread("", request)
	// The group's subnet is the first interface's where the template describes that.
	if interfaces := slices.Clone(version.Data.NetworkInterfaces); len(interfaces) > 0 {
		interfaces[0].SubnetID = launch.SubnetID
		maps.Copy(values, spread("", templateData{NetworkInterfaces: interfaces}))
	} else {
		values.Set("SubnetId", launch.SubnetID)
	}
	values.Set("LaunchTemplate.LaunchTemplateId", launch.Template.ID)
	values.Set("LaunchTemplate.Version", strconv.Itoa(launch.Template.Version))
	values.Set("MinCount", "1")
	values.Set("MaxCount", "1")
	values.Set("ClientToken", launch.Token)
	launched, err := l.Service.launch(l.Service.own("RunInstances", values))
	if err != nil {
		return fleet.Instance{}, err
	}
	return launched[0], nil
}

func instanceTags(tags map[string]string) []templateTags {
	if len(tags) == 0 {
		return nil
	}
	spec := templateTags{ResourceType: "instance"}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		value := tags[key]
		spec.Tags = append(spec.Tags, templateTag{Key: key, Value: &value})
	}
	return []templateTags{spec}
}

// own are the parameters of a request that the lab makes for the account.
func (s Service) own(action string, values url.Values) *params {
	p := newParams(wire.Call{ID: uuid.NewString(), Region: s.Plan.Region, Action: action, Params: values, Caller: sigv4.Credential{ARN: s.Plan.IAM("root")}})
	p.internal = true
	return p
}

// ask carries an action out as a request of the account's own would, and answers the
// response; a wire.Error refuses it.
func ask[T any](s Service, action string, values url.Values) (T, error) {
	var none T
	a, ok := find(action)
	if !ok {
		return none, invalid("InvalidAction", "The action %s is not valid for this web service.", action)
	}
	answer, err := a.do(s, s.own(action, values))
	if err != nil {
		return none, err
	}
	response, ok := answer.(T)
	if !ok {
		return none, &wire.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: "An internal error has occurred"}
	}
	return response, nil
}
