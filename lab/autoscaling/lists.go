package autoscaling

import (
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

type activityItem struct {
	ID          string `xml:"ActivityId"`
	Group       string `xml:"AutoScalingGroupName"`
	Description string `xml:"Description"`
	Cause       string `xml:"Cause"`
	Start       string `xml:"StartTime"`
	End         string `xml:"EndTime,omitempty"`
	Status      string `xml:"StatusCode"`
	Message     string `xml:"StatusMessage,omitempty"`
	Progress    int    `xml:"Progress"`
	Details     string `xml:"Details,omitempty"`
}

func (a activity) item(group string) activityItem {
	item := activityItem{
		ID: a.ID, Group: group, Description: a.Description, Cause: a.Cause, Start: a.Start.Format(timeFormat),
		Status: a.Status, Message: a.Message, Details: a.Details, Progress: 50,
	}
	switch {
	case !a.End.IsZero():
		item.End, item.Progress = a.End.Format(timeFormat), 100
	case a.Status == preInService:
		item.Progress = 25
	}
	return item
}

type describedActivities struct {
	Activities []activityItem `xml:"Activities>member"`
	Next       string         `xml:"NextToken,omitempty"`
}

func (s Service) describeActivities(p *query.Params) (any, error) {
	name, ids, part := p.Text("AutoScalingGroupName"), p.List("ActivityIds"), readPage(p, 100, 100)
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedActivities
	err := s.Groups.change(func() error {
		if _, err := s.Groups.find(name); name != "" && err != nil {
			return err
		}
		var items []activityItem
		for _, g := range s.Groups.list {
			if name != "" && g.Name != name {
				continue
			}
			for _, a := range slices.Backward(g.Activities) {
				if len(ids) == 0 || slices.Contains(ids, a.ID) {
					items = append(items, a.item(g.Name))
				}
			}
		}
		result.Activities, result.Next = cut(items, part)
		return nil
	})
	return result, err
}

type hookItem struct {
	Name          string `xml:"LifecycleHookName"`
	Group         string `xml:"AutoScalingGroupName"`
	Transition    string `xml:"LifecycleTransition"`
	Heartbeat     int    `xml:"HeartbeatTimeout"`
	GlobalTimeout int    `xml:"GlobalTimeout"`
	Default       string `xml:"DefaultResult"`
	Metadata      string `xml:"NotificationMetadata,omitempty"`
}

type describedHooks struct {
	Hooks []hookItem `xml:"LifecycleHooks>member"`
}

func (s Service) describeHooks(p *query.Params) (any, error) {
	name, names := p.Required("AutoScalingGroupName"), p.List("LifecycleHookNames")
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedHooks
	err := s.Groups.change(func() error {
		g, err := s.Groups.find(name)
		if err != nil {
			return err
		}
		for _, h := range g.Hooks {
			if len(names) == 0 || slices.Contains(names, h.Name) {
				result.Hooks = append(result.Hooks, hookItem{
					Name: h.Name, Group: name, Transition: h.Transition, Heartbeat: h.Heartbeat,
					GlobalTimeout: int(h.limit() / time.Second), Default: h.Default, Metadata: h.Metadata,
				})
			}
		}
		return nil
	})
	return result, err
}

type describedPool struct {
	Configuration *poolItem      `xml:"WarmPoolConfiguration"`
	Instances     []instanceItem `xml:"Instances>member"`
	Next          string         `xml:"NextToken,omitempty"`
}

func (s Service) describePool(p *query.Params) (any, error) {
	name, part := p.Required("AutoScalingGroupName"), readPage(p, 50, 50)
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedPool
	err := s.Groups.change(func() error {
		g, err := s.Groups.find(name)
		if err != nil || g.Pool == nil {
			return err
		}
		instances := s.Groups.instances()
		var items []instanceItem
		for _, m := range g.Members {
			if m.warm() && m.ID != "" {
				items = append(items, m.item(instances[m.ID]))
			}
		}
		result.Configuration = g.Pool.item()
		result.Instances, result.Next = cut(items, part)
		return nil
	})
	return result, err
}

type refreshItem struct {
	ID          string `xml:"InstanceRefreshId"`
	Group       string `xml:"AutoScalingGroupName"`
	Status      string `xml:"Status"`
	Reason      string `xml:"StatusReason,omitempty"`
	Start       string `xml:"StartTime,omitempty"`
	End         string `xml:"EndTime,omitempty"`
	Percentage  int    `xml:"PercentageComplete"`
	Left        int    `xml:"InstancesToUpdate"`
	Preferences struct {
		MinHealthy   int    `xml:"MinHealthyPercentage"`
		MaxHealthy   int    `xml:"MaxHealthyPercentage"`
		Warmup       int    `xml:"InstanceWarmup"`
		SkipMatching bool   `xml:"SkipMatching"`
		AutoRollback bool   `xml:"AutoRollback"`
		Protected    string `xml:"ScaleInProtectedInstances"`
	} `xml:"Preferences"`
	Desired  *desiredItem  `xml:"DesiredConfiguration"`
	Rollback *rollbackItem `xml:"RollbackDetails"`
}

type desiredItem struct {
	Template *specification `xml:"LaunchTemplate"`
	Mixed    *mixedItem     `xml:"MixedInstancesPolicy"`
}

type rollbackItem struct {
	Reason     string `xml:"RollbackReason"`
	Start      string `xml:"RollbackStartTime"`
	Percentage int    `xml:"PercentageCompleteOnRollback"`
	Left       int    `xml:"InstancesToUpdateOnRollback"`
}

func (s Service) refreshItem(g *group, r *refresh) refreshItem {
	item := refreshItem{ID: r.ID, Group: g.Name, Status: r.Status, Reason: r.Reason, Percentage: r.complete(), Left: len(r.Old)}
	if r.Status == refreshPending {
		item.Percentage = 0
	}
	for at, text := range map[*time.Time]*string{&r.Start: &item.Start, &r.End: &item.End} {
		if !at.IsZero() {
			*text = at.Format(timeFormat)
		}
	}
	set := &item.Preferences
	set.MinHealthy, set.MaxHealthy, set.Warmup = r.MinHealthy, r.MaxHealthy, r.Warmup
	set.SkipMatching, set.AutoRollback, set.Protected = r.SkipMatching, r.AutoRollback, r.Protected
	if r.Wanted != nil {
		item.Desired = new(desiredItem)
		if r.Wanted.Template != nil {
			template := s.Groups.specification(*r.Wanted.Template)
			item.Desired.Template = &template
		} else {
			item.Desired.Mixed = s.Groups.policy(r.Wanted.Mixed)
		}
	}
	if !r.RollbackStart.IsZero() {
		item.Rollback = &rollbackItem{r.RollbackReason, r.RollbackStart.Format(timeFormat), r.Undone, r.UndoneLeft}
	}
	return item
}

type describedRefreshes struct {
	Refreshes []refreshItem `xml:"InstanceRefreshes>member"`
	Next      string        `xml:"NextToken,omitempty"`
}

func (s Service) describeRefreshes(p *query.Params) (any, error) {
	name, ids, part := p.Required("AutoScalingGroupName"), p.List("InstanceRefreshIds"), readPage(p, 50, 100)
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedRefreshes
	err := s.Groups.change(func() error {
		g, err := s.Groups.find(name)
		if err != nil {
			return err
		}
		var items []refreshItem
		for _, r := range slices.Backward(g.Refreshes) {
			if len(ids) == 0 || slices.Contains(ids, r.ID) {
				items = append(items, s.refreshItem(g, r))
			}
		}
		result.Refreshes, result.Next = cut(items, part)
		return nil
	})
	return result, err
}

// eachTag reads the tags of a request, each of which names its group.
func (s Service) eachTag(p *query.Params, change func(g *group, t tag, prefix string)) (any, error) {
	prefixes := p.Members("Tags")
	return nil, s.Groups.change(func() error {
		for _, prefix := range prefixes {
			name := p.Required(prefix + ".ResourceId")
			p.OneOf(prefix+".ResourceType", "auto-scaling-group", "auto-scaling-group")
			t := tag{Key: p.Required(prefix + ".Key"), Value: p.Text(prefix + ".Value"), Propagate: flag(p, prefix+".PropagateAtLaunch", false)}
			g, err := s.Groups.find(name)
			if err != nil {
				p.Fail(err)
				continue
			}
			change(g, t, prefix)
		}
		return p.Done()
	})
}

func (s Service) putTags(p *query.Params) (any, error) {
	return s.eachTag(p, func(g *group, t tag, _ string) {
		g.Tags = slices.DeleteFunc(g.Tags, func(old tag) bool { return old.Key == t.Key })
		g.Tags = append(g.Tags, t)
	})
}

func (s Service) deleteTags(p *query.Params) (any, error) {
	return s.eachTag(p, func(g *group, t tag, prefix string) {
		g.Tags = slices.DeleteFunc(g.Tags, func(old tag) bool {
			return old.Key == t.Key && (!p.Given(prefix+".Value") || t.Value == "" || old.Value == t.Value)
		})
	})
}

type describedTags struct {
	Tags []tagItem `xml:"Tags>member"`
	Next string    `xml:"NextToken,omitempty"`
}

func (s Service) describeTags(p *query.Params) (any, error) {
	filters, part := readFilters(p, "auto-scaling-group", "key", "value", "propagate-at-launch"), readPage(p, 50, 100)
	if err := p.Done(); err != nil {
		return nil, err
	}
	var result describedTags
	err := s.Groups.change(func() error {
		var items []tagItem
		for _, g := range s.Groups.list {
			for _, t := range g.Tags {
				fits := func(f filter) bool {
					value := map[string]string{"auto-scaling-group": g.Name, "key": t.Key, "value": t.Value, "propagate-at-launch": "false"}[f.name]
					if f.name == "propagate-at-launch" && t.Propagate {
						value = "true"
					}
					return slices.ContainsFunc(f.values, func(v string) bool { return strings.EqualFold(v, value) })
				}
				if !slices.ContainsFunc(filters, func(f filter) bool { return !fits(f) }) {
					items = append(items, t.item(g.Name))
				}
			}
		}
		result.Tags, result.Next = cut(items, part)
		return nil
	})
	return result, err
}
