// The types that a dashboard's JSON has to have. Generated files beside this one hold the JSON as literals.

import type * as common from "@grafana/schema";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as eleven from "grafana-schema-11";

// JSON has texts where the schema has enumerations: of an enumeration of texts, its values are what is allowed.
type Plain<T> = 0 extends 1 & T
  ? T
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : T extends (infer Element)[]
        ? Plain<Element>[]
        : T extends object
          ? { [Key in keyof T]: Plain<T[Key]> }
          : T;

// A query to Prometheus; its plugin keeps the type to itself.
type Target = Plain<Omit<common.DataQuery, "datasource">> & {
  datasource: { type: "prometheus"; uid: "${datasource}" };
  editorMode: "code" | "builder";
  expr: string;
  format: "time_series" | "table" | "heatmap";
  instant: boolean;
  legendFormat: string;
  range: boolean;
};

// What Grafana's support of annotations from Prometheus reads beside the common fields.
type Annotation = Plain<Omit<common.AnnotationQuery, "target">> & {
  target: { refId: string; expr: string };
  tagKeys: string;
  textFormat: string;
  titleFormat: string;
  useValueForTime: "on" | "";
};

type Of<Kind extends string, Options, Custom> = Plain<Omit<common.Panel, "options" | "fieldConfig" | "targets" | "type">> & {
  type: Kind;
  options: Plain<Options>;
  targets: Target[];
  fieldConfig: {
    defaults: Plain<Omit<common.FieldConfig, "custom">> & { custom?: Plain<Custom> };
    overrides: Plain<common.FieldConfigSource["overrides"]>;
  };
};

export type Panels = {
  stat: Of<"stat", stat.Options, never>;
  timeseries: Of<"timeseries", timeseries.Options, timeseries.FieldConfig>;
  table: Of<"table", table.Options, table.FieldConfig>;
  "state-timeline": Of<"state-timeline", timeline.Options, timeline.FieldConfig>;
  row: Plain<common.RowPanel>;
};

export type Frame = Plain<Omit<common.Dashboard, "panels" | "annotations">> & { annotations: { list: Annotation[] } };
export type FrameOf11 = Plain<Omit<eleven.Dashboard, "panels" | "annotations">>;
export type PanelOf11 = Plain<eleven.Panel> | Plain<eleven.RowPanel>;
