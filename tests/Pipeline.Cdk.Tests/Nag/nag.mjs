// node nag.mjs TEMPLATE: what cdk-nag's AwsSolutions pack finds in a template, one JSON line each.
import { App, Aspects, Stack } from 'aws-cdk-lib';
import { CfnInclude } from 'aws-cdk-lib/cloudformation-include';
import { AwsSolutionsChecks } from 'cdk-nag';

const app = new App({ analyticsReporting: false, treeMetadata: false });
new CfnInclude(new Stack(app, 'Included'), 'Template', { templateFile: process.argv[2] });

const ignore = () => {};
const report = (data, finding) => console.log(JSON.stringify({
  rule: data.ruleId, resource: data.resource.node.id, finding: data.findingId ?? '', text: finding,
}));
Aspects.of(app).add(new AwsSolutionsChecks({
  reports: false,
  additionalLoggers: [{
    onCompliance: ignore, onSuppressed: ignore, onSuppressedError: ignore, onNotApplicable: ignore,
    onNonCompliance: data => report(data, data.ruleInfo),
    // A rule that could not be evaluated is a finding, too.
    onError: data => report(data, data.errorMessage),
  }],
}));
app.synth();
