package cloudformation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/query"
)

type parameter struct {
	Key      string `xml:"ParameterKey"`
	Value    string `xml:"ParameterValue"`
	Resolved string `xml:"ResolvedValue,omitempty"`
}

type tag struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

func tags(of map[string]string) []tag {
	var list []tag
	for _, key := range slices.Sorted(maps.Keys(of)) {
		list = append(list, tag{key, of[key]})
	}
	return list
}

// given is a spec's parameters, as far as they may be seen.
func given(sp spec) []parameter {
	t, err := sp.template()
	if err != nil {
		return nil
	}
	var list []parameter
	for _, name := range slices.Sorted(maps.Keys(sp.Parameters)) {
		one := parameter{name, sp.Parameters[name], sp.Resolved[name]}
		if t.Parameters[name].NoEcho {
			one.Value, one.Resolved = "****", ""
		}
		list = append(list, one)
	}
	return list
}

type outputItem struct {
	Key         string `xml:"OutputKey"`
	Value       string `xml:"OutputValue"`
	Description string `xml:"Description,omitempty"`
	Export      string `xml:"ExportName,omitempty"`
}

type drift struct {
	Status string `xml:"StackDriftStatus"`
}

type stackItem struct {
	ID           string       `xml:"StackId"`
	Name         string       `xml:"StackName"`
	Description  string       `xml:"Description,omitempty"`
	Parameters   []parameter  `xml:"Parameters>member"`
	Created      string       `xml:"CreationTime"`
	Deleted      string       `xml:"DeletionTime,omitempty"`
	Updated      string       `xml:"LastUpdatedTime,omitempty"`
	Status       string       `xml:"StackStatus"`
	Reason       string       `xml:"StackStatusReason,omitempty"`
	KeepsAll     bool         `xml:"DisableRollback"`
	Timeout      int          `xml:"TimeoutInMinutes,omitempty"`
	Capabilities []string     `xml:"Capabilities>member"`
	Outputs      []outputItem `xml:"Outputs>member"`
	Tags         []tag        `xml:"Tags>member"`
	Protected    bool         `xml:"EnableTerminationProtection"`
	Drift        drift        `xml:"DriftInformation"`
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

func item(st *stack) stackItem {
	out := stackItem{
		ID: st.ID, Name: st.Name, Parameters: given(st.Spec), Created: moment(st.Created), Deleted: moment(st.Deleted), Updated: moment(st.Updated),
		Status: st.Status, Reason: st.Reason, KeepsAll: st.KeepsAll, Timeout: st.Timeout, Capabilities: st.Spec.Capabilities, Tags: tags(st.Spec.Tags),
		Protected: st.Protected, Drift: drift{"NOT_CHECKED"},
	}
	if t, err := st.Spec.template(); err == nil {
		out.Description = t.Description
	}
	for _, key := range slices.Sorted(maps.Keys(st.Outputs)) {
		o := st.Outputs[key]
		out.Outputs = append(out.Outputs, outputItem{key, o.Value, o.Description, o.Export})
	}
	return out
}

type stacksResult struct {
	Stacks []stackItem `xml:"Stacks>member"`
	Next   string      `xml:"NextToken,omitempty"`
}

func (s Service) describeStacks(_ context.Context, p *query.Params) (any, error) {
	var list []*stack
	if name := p.Text("StackName"); name != "" {
		st, err := s.Stacks.get(name)
		if err != nil {
			return nil, err
		}
		list = []*stack{st}
	} else {
		list = slices.DeleteFunc(s.Stacks.all(), func(st *stack) bool { return st.Status == deleteComplete })
	}
	list, next := page(p, list)
	if err := p.Done(); err != nil {
		return nil, err
	}
	result := stacksResult{Next: next}
	for _, st := range list {
		result.Stacks = append(result.Stacks, item(st))
	}
	return result, nil
}

type stackSummary struct {
	ID          string `xml:"StackId"`
	Name        string `xml:"StackName"`
	Description string `xml:"TemplateDescription,omitempty"`
	Created     string `xml:"CreationTime"`
	Updated     string `xml:"LastUpdatedTime,omitempty"`
	Deleted     string `xml:"DeletionTime,omitempty"`
	Status      string `xml:"StackStatus"`
	Reason      string `xml:"StackStatusReason,omitempty"`
	Drift       drift  `xml:"DriftInformation"`
}

type summaries struct {
	Stacks []stackSummary `xml:"StackSummaries>member"`
	Next   string         `xml:"NextToken,omitempty"`
}

func (s Service) listStacks(_ context.Context, p *query.Params) (any, error) {
	statuses := p.List("StackStatusFilter")
	list := slices.DeleteFunc(s.Stacks.all(), func(st *stack) bool { return len(statuses) > 0 && !slices.Contains(statuses, st.Status) })
	list, next := page(p, list)
	if err := p.Done(); err != nil {
		return nil, err
	}
	result := summaries{Next: next}
	for _, st := range list {
		i := item(st)
		result.Stacks = append(result.Stacks, stackSummary{i.ID, i.Name, i.Description, i.Created, i.Updated, i.Deleted, i.Status, i.Reason, i.Drift})
	}
	return result, nil
}

type eventItem struct {
	StackID    string `xml:"StackId"`
	ID         string `xml:"EventId"`
	StackName  string `xml:"StackName"`
	Logical    string `xml:"LogicalResourceId"`
	Physical   string `xml:"PhysicalResourceId,omitempty"`
	Type       string `xml:"ResourceType"`
	Time       string `xml:"Timestamp"`
	Status     string `xml:"ResourceStatus"`
	Reason     string `xml:"ResourceStatusReason,omitempty"`
	Properties string `xml:"ResourceProperties,omitempty"`
	Token      string `xml:"ClientRequestToken,omitempty"`
}

type events struct {
	Events []eventItem `xml:"StackEvents>member"`
	Next   string      `xml:"NextToken,omitempty"`
}

func (s Service) describeEvents(_ context.Context, p *query.Params) (any, error) {
	name := p.Required("StackName")
	st, ok := s.Stacks.find(name)
	if !ok && name != "" {
		return nil, query.Invalid("Stack [%s] does not exist", name)
	}
	var all []event
	if ok {
		all = slices.Clone(st.Events)
	}
	slices.Reverse(all)
	all, next := page(p, all)
	if err := p.Done(); err != nil {
		return nil, err
	}
	result := events{Next: next}
	for _, e := range all {
		result.Events = append(result.Events, eventItem{
			st.ID, e.ID, st.Name, e.Logical, e.Physical, e.Type, moment(e.Time), e.Status, e.Reason, e.Properties, e.Token,
		})
	}
	return result, nil
}

type resourceItem struct {
	StackID   string `xml:"StackId,omitempty"`
	StackName string `xml:"StackName,omitempty"`
	Logical   string `xml:"LogicalResourceId"`
	Physical  string `xml:"PhysicalResourceId,omitempty"`
	Type      string `xml:"ResourceType"`
	Time      string `xml:"Timestamp,omitempty"`
	Changed   string `xml:"LastUpdatedTimestamp,omitempty"`
	Status    string `xml:"ResourceStatus"`
	Reason    string `xml:"ResourceStatusReason,omitempty"`
	Metadata  string `xml:"Metadata,omitempty"`
	Drift     struct {
		Status string `xml:"StackResourceDriftStatus"`
	} `xml:"DriftInformation"`
}

// resources are a stack's, in the order of their names.
func resources(st *stack) []resourceItem {
	var list []resourceItem
	for _, logical := range slices.Sorted(maps.Keys(st.Resources)) {
		h := st.Resources[logical]
		one := resourceItem{StackID: st.ID, StackName: st.Name, Logical: logical, Physical: h.Now.ID, Type: h.Type, Time: moment(h.Time), Status: h.Status, Reason: h.Reason}
		one.Drift.Status = "NOT_CHECKED"
		list = append(list, one)
	}
	return list
}

type oneResource struct {
	Resource resourceItem `xml:"StackResourceDetail"`
}

func (s Service) describeResource(_ context.Context, p *query.Params) (any, error) {
	name, logical := p.Required("StackName"), p.Required("LogicalResourceId")
	if err := p.Done(); err != nil {
		return nil, err
	}
	st, ok := s.Stacks.find(name)
	if !ok {
		return nil, query.Invalid("Stack '%s' does not exist", name)
	}
	for _, one := range resources(st) {
		if one.Logical == logical {
			one.Time, one.Changed = "", one.Time
			if m := st.Resources[logical].Now.Metadata; m != nil {
				one.Metadata = encode(m)
			}
			return oneResource{one}, nil
		}
	}
	return nil, query.Invalid("Resource %s does not exist for stack %s", logical, st.Name)
}

type manyResources struct {
	Resources []resourceItem `xml:"StackResources>member"`
}

func (s Service) describeResources(_ context.Context, p *query.Params) (any, error) {
	name, logical, physical := p.Text("StackName"), p.Text("LogicalResourceId"), p.Text("PhysicalResourceId")
	if (name == "") == (physical == "") {
		p.Fail(query.Invalid("Either StackName or PhysicalResourceId must be given, and not both"))
	}
	if err := p.Done(); err != nil {
		return nil, err
	}
	for _, st := range s.Stacks.all() {
		for _, h := range st.Resources {
			if physical != "" && h.Now.ID == physical {
				name = st.ID
			}
		}
	}
	if name == "" {
		return nil, query.Invalid("Stack for %s does not exist", physical)
	}
	st, err := s.Stacks.get(name)
	if err != nil {
		return nil, err
	}
	list := slices.DeleteFunc(resources(st), func(one resourceItem) bool { return logical != "" && one.Logical != logical })
	if logical != "" && len(list) == 0 {
		return nil, query.Invalid("Resource %s does not exist for stack %s", logical, st.Name)
	}
	return manyResources{list}, nil
}

type listedResources struct {
	Resources []resourceItem `xml:"StackResourceSummaries>member"`
	Next      string         `xml:"NextToken,omitempty"`
}

func (s Service) listResources(_ context.Context, p *query.Params) (any, error) {
	name := p.Required("StackName")
	st, ok := s.Stacks.find(name)
	if !ok && name != "" {
		return nil, query.Invalid("Stack with id %s does not exist", name)
	}
	var list []resourceItem
	if ok {
		list = resources(st)
	}
	list, next := page(p, list)
	if err := p.Done(); err != nil {
		return nil, err
	}
	for i := range list {
		list[i].StackID, list[i].StackName, list[i].Time, list[i].Changed = "", "", "", list[i].Time
	}
	return listedResources{list, next}, nil
}

type exportItem struct {
	Stack string `xml:"ExportingStackId"`
	Name  string `xml:"Name"`
	Value string `xml:"Value"`
}

type exports struct {
	Exports []exportItem `xml:"Exports>member"`
	Next    string       `xml:"NextToken,omitempty"`
}

func (s Service) listExports(_ context.Context, p *query.Params) (any, error) {
	var list []exportItem
	for _, st := range s.Stacks.all() {
		for _, o := range st.Outputs {
			if o.Export != "" {
				list = append(list, exportItem{st.ID, o.Export, o.Value})
			}
		}
	}
	slices.SortFunc(list, func(a, b exportItem) int { return strings.Compare(a.Name, b.Name) })
	list, next := page(p, list)
	return exports{list, next}, p.Done()
}

type imports struct {
	Stacks []string `xml:"Imports>member"`
	Next   string   `xml:"NextToken,omitempty"`
}

func (s Service) listImports(_ context.Context, p *query.Params) (any, error) {
	name := p.Required("ExportName")
	names, next := page(p, s.Stacks.importers(name))
	if err := p.Done(); err != nil {
		return nil, err
	}
	if _, err := s.Stacks.imported(name); err != nil {
		return nil, query.Invalid("Export '%s' does not exist.", name)
	}
	if len(names) == 0 {
		return nil, query.Invalid("Export '%s' is not imported by any stack.", name)
	}
	return imports{names, next}, nil
}

type body64 struct {
	Body   string   `xml:"TemplateBody"`
	Stages []string `xml:"StagesAvailable>member"`
}

func (s Service) getTemplate(_ context.Context, p *query.Params) (any, error) {
	p.OneOf("TemplateStage", "Original", "Original", "Processed")
	if set := p.Text("ChangeSetName"); set != "" {
		_, c, err := s.set(p)
		if err != nil {
			return nil, err
		}
		return body64{c.Spec.Body, []string{"Original", "Processed"}}, nil
	}
	name := p.Required("StackName")
	if err := p.Done(); err != nil {
		return nil, err
	}
	st, err := s.Stacks.get(name)
	if err != nil {
		return nil, err
	}
	if st.Spec.Body == "" {
		return nil, query.Invalid("%s", fmt.Sprintf("Template for stack %s does not exist: its change set is not executed", st.Name))
	}
	return body64{st.Spec.Body, []string{"Original", "Processed"}}, nil
}
