package logs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// maxDescribed is how many groups or streams come in one answer.
const maxDescribed = 50

// class is the one that the lab's groups have.
const class = "STANDARD"

type createGroupRequest struct {
	Name  *string           `json:"logGroupName"`
	Key   *string           `json:"kmsKeyId"` // the lab has no KMS: it is recorded and shown
	Class *string           `json:"logGroupClass"`
	Tags  map[string]string `json:"tags"`
}

func (s Service) createGroup(call wire.Call, in createGroupRequest) (any, error) {
	var c check
	made := group{
		Region: call.Region, Name: c.newGroup(in.Name), Key: c.text("kmsKeyId", in.Key, 0, 256, anything), Tags: in.Tags,
	}
	c.tags(in.Tags)
	if c.err == nil {
		c.err = standard(in.Class)
	}
	if c.err == nil && len(in.Tags) > 0 {
		c.err = s.permit(call, "logs:TagResource", "logs:TagLogGroup")
	}
	if c.err != nil {
		return nil, c.err
	}
	err := s.Store.create(made)
	if errors.Is(err, errExists) {
		return nil, refuse("ResourceAlreadyExistsException", "The specified log group already exists")
	}
	return struct{}{}, err
}

// standard refuses a class that reads its events in other ways.
func standard(of *string) error {
	var c check
	c.oneOf("logGroupClass", of, class, "INFREQUENT_ACCESS", "DELIVERY")
	if c.err == nil && of != nil && *of != class {
		return invalid("The lab has log groups of the class %s only.", class)
	}
	return c.err
}

type groupRequest struct {
	Name *string `json:"logGroupName"`
}

func (s Service) deleteGroup(call wire.Call, in groupRequest) (any, error) {
	var c check
	name := c.required("logGroupName", in.Name, groupName)
	if c.err != nil {
		return nil, c.err
	}
	return struct{}{}, s.Store.remove(call.Region, name)
}

type retentionRequest struct {
	Name *string `json:"logGroupName"`
	Days *int64  `json:"retentionInDays"`
}

func (s Service) putRetention(call wire.Call, in retentionRequest) (any, error) {
	var c check
	name, days := c.required("logGroupName", in.Name, groupName), c.retention("retentionInDays", in.Days)
	if c.err != nil {
		return nil, c.err
	}
	return struct{}{}, s.retain(call.Region, name, days)
}

func (s Service) deleteRetention(call wire.Call, in groupRequest) (any, error) {
	var c check
	name := c.required("logGroupName", in.Name, groupName)
	if c.err != nil {
		return nil, c.err
	}
	return struct{}{}, s.retain(call.Region, name, 0)
}

func (s Service) retain(region, name string, days int) error {
	return s.Store.amend(region, name, func(g *group) error { g.Retention = days; return nil })
}

type describeGroupsRequest struct {
	Prefix  *string `json:"logGroupNamePrefix"`
	Pattern *string `json:"logGroupNamePattern"`
	Class   *string `json:"logGroupClass"`
	Token   *string `json:"nextToken"`
	Limit   *int64  `json:"limit"`
}

// groupView is a group as it is sent.
type groupView struct {
	ARN          string `json:"arn"`
	Created      int64  `json:"creationTime"`
	Name         string `json:"logGroupName"`
	*groupDetail        // nil: what is found by a pattern comes without
}

type groupDetail struct {
	GroupARN  string `json:"logGroupArn"`
	Class     string `json:"logGroupClass"`
	Key       string `json:"kmsKeyId,omitempty"`
	Retention int    `json:"retentionInDays,omitempty"`
	Filters   int    `json:"metricFilterCount"`
	Stored    int64  `json:"storedBytes"`
	Protected bool   `json:"deletionProtectionEnabled"`
}

type describeGroupsResponse struct {
	Groups []groupView `json:"logGroups"`
	Token  string      `json:"nextToken,omitempty"`
}

func (s Service) describeGroups(call wire.Call, in describeGroupsRequest) (any, error) {
	var c check
	prefix, pattern := c.text("logGroupNamePrefix", in.Prefix, 1, maxName, groupName), c.text("logGroupNamePattern", in.Pattern, 0, maxName, groupPart)
	of := c.oneOf("logGroupClass", in.Class, class, "INFREQUENT_ACCESS", "DELIVERY")
	token, limit := c.text("nextToken", in.Token, 1, 1<<20, anything), c.within("limit", in.Limit, 1, maxDescribed, maxDescribed)
	switch {
	case c.err != nil:
		return nil, c.err
	case prefix != "" && pattern != "":
		return nil, invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
	}
	groups := slices.DeleteFunc(s.Store.list(call.Region), func(g group) bool {
		return !strings.HasPrefix(g.Name, prefix) || !strings.Contains(g.Name, pattern) || of != "" && of != class
	})
	groups, next, err := page(listingOf("groups", call.Region, prefix, pattern, of), groups, func(g group) string { return g.Name }, false, token, limit)
	if err != nil {
		return nil, err
	}
	out := describeGroupsResponse{Groups: []groupView{}, Token: next}
	for _, g := range groups {
		arn := s.arn(g.Region, g.Name)
		view := groupView{ARN: arn + ":*", Created: g.Created, Name: g.Name}
		if pattern == "" {
			view.groupDetail = &groupDetail{GroupARN: arn, Class: class, Key: g.Key, Retention: g.Retention, Stored: s.Store.stored(g), Protected: g.Protected}
		}
		out.Groups = append(out.Groups, view)
	}
	return out, nil
}

type streamRequest struct {
	Group  *string `json:"logGroupName"`
	Stream *string `json:"logStreamName"`
}

func (s Service) createStream(call wire.Call, in streamRequest) (any, error) {
	var c check
	name, of := c.required("logGroupName", in.Group, groupName), c.required("logStreamName", in.Stream, streamName)
	if c.err != nil {
		return nil, c.err
	}
	err := s.Store.createStream(call.Region, name, of)
	if errors.Is(err, errExists) {
		return nil, refuse("ResourceAlreadyExistsException", "The specified log stream already exists")
	}
	return struct{}{}, err
}

// group is the name of the group that a request is about. Some name it, or give its ARN.
func (s Service) group(c *check, region string, name, identifier *string) string {
	if (name == nil) == (identifier == nil) && c.err == nil {
		c.err = invalid("Exactly one of logGroupName and logGroupIdentifier must be given.")
	}
	if identifier == nil {
		return c.text("logGroupName", name, 1, maxName, groupName)
	}
	return strings.TrimPrefix(c.text("logGroupIdentifier", identifier, 1, 2048, groupIdentifier), s.arn(region, ""))
}

type describeStreamsRequest struct {
	Group      *string `json:"logGroupName"`
	Identifier *string `json:"logGroupIdentifier"`
	Prefix     *string `json:"logStreamNamePrefix"`
	Order      *string `json:"orderBy"`
	Descending bool    `json:"descending"`
	Token      *string `json:"nextToken"`
	Limit      *int64  `json:"limit"`
}

// streamView is a stream as it is sent. One without events has no times of them.
type streamView struct {
	ARN      string `json:"arn"`
	Created  int64  `json:"creationTime"`
	Name     string `json:"logStreamName"`
	First    int64  `json:"firstEventTimestamp,omitempty"`
	Last     int64  `json:"lastEventTimestamp,omitempty"`
	Ingested int64  `json:"lastIngestionTime,omitempty"`
	Sequence string `json:"uploadSequenceToken,omitempty"`
	Stored   int64  `json:"storedBytes"` // zero since 2019, by the reference
}

type describeStreamsResponse struct {
	Streams []streamView `json:"logStreams"`
	Token   string       `json:"nextToken,omitempty"`
}

const byTime = "LastEventTime"

func (s Service) describeStreams(call wire.Call, in describeStreamsRequest) (any, error) {
	var c check
	name, prefix := s.group(&c, call.Region, in.Group, in.Identifier), c.text("logStreamNamePrefix", in.Prefix, 1, maxName, streamName)
	order := cmp.Or(c.oneOf("orderBy", in.Order, "LogStreamName", byTime), "LogStreamName")
	token, limit := c.text("nextToken", in.Token, 1, 1<<20, anything), c.within("limit", in.Limit, 1, maxDescribed, maxDescribed)
	switch {
	case c.err != nil:
		return nil, c.err
	case order == byTime && prefix != "":
		return nil, invalid("Cannot order by LastEventTime with a logStreamNamePrefix.")
	}
	_, views, err := s.Store.look(call.Region, name, func(of string) bool { return strings.HasPrefix(of, prefix) })
	if err != nil {
		return nil, err
	}
	streams := []streamView{}
	for _, v := range views {
		streams = append(streams, v.describe(s.arn(call.Region, name)))
	}
	key := func(v streamView) string { return v.Name }
	if order == byTime {
		key = func(v streamView) string { return fmt.Sprintf("%020d %s", v.Last, v.Name) }
	}
	slices.SortFunc(streams, func(a, b streamView) int {
		if in.Descending {
			a, b = b, a
		}
		return strings.Compare(key(a), key(b))
	})
	streams, next, err := page(listingOf("streams", call.Region, name, prefix, order, in.Descending), streams, key, in.Descending, token, limit)
	return describeStreamsResponse{streams, next}, err
}

func (v view) describe(group string) streamView {
	out := streamView{ARN: group + ":log-stream:" + v.Name, Created: v.Created, Name: v.Name}
	if n := len(v.entries); n > 0 {
		newest := slices.MaxFunc(v.entries, func(a, b entry) int { return cmp.Compare(a.Sequence, b.Sequence) })
		out.First, out.Last, out.Ingested, out.Sequence = v.entries[0].Time, v.entries[n-1].Time, newest.ingested, newest.String()
	}
	return out
}
