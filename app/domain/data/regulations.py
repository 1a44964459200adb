"""Regulations, standards and programmes. The shape of a row is :class:`app.domain.regulations.Regulation`.

A value that nobody could find a source for is not here: the PUE values of PBOC documents (JR/T), targets of 1.3
or 1.25 for banks, and clauses of GB/T 32910.3 and 32910.4.
"""

from __future__ import annotations

from datetime import date

from app.domain.regulations import Condition, Milestone, Regulation

_CHINA: tuple[Regulation, ...] = (
    Regulation(
        id="cbrc_13fyp",
        name="Bank IT guideline 2016–2020",
        name_zh="银行业“十三五”信息科技监管指导意见",
        says="PUE at most 1.5 (state-owned and joint-stock banks) or 2.0 (others). The plan ended in 2020; its "
        "limits stay the yardstick until another one replaces them.",
        says_zh="国有及股份制银行 PUE 不高于 1.5，其他机构不高于 2.0。规划期至 2020 年；在新的要求出台前仍作为参照。",
        jurisdictions=("CN",),
        announced_on=date(2016, 7, 15),
        valid_from=date(2016, 7, 15),
        profile="cbrc_13fyp",
        source="Supervisory guideline on information technology of banking institutions, 13th five-year plan",
        verified=True,
    ),
    Regulation(
        id="gb40879_2021",
        name="GB 40879-2021",
        name_zh="GB 40879-2021《数据中心能效限定值及能效等级》",
        says="Energy efficiency grades by PUE: 1.20, 1.30 and 1.50; grade 3 is mandatory.",
        says_zh="按 PUE 划分能效等级：1 级 1.20、2 级 1.30、3 级 1.50，其中 3 级为强制限定值。",
        jurisdictions=("CN",),
        excludes_edge_racks=100,
        valid_from=date(2022, 11, 1),
        conditions=(Condition(indicator="gb40879_grade", at_most=3),),
        profile="gb40879_2021",
        source="GB 40879-2021",
        verified=True,
    ),
    Regulation(
        id="gb40879_revision",
        name="Revision of GB 40879",
        name_zh="GB 40879 修订",
        says="Revision project; its values are not known.",
        says_zh="修订项目；限值尚未公布。",
        is_draft=True,
        jurisdictions=("CN",),
        announced_on=date(2025, 4, 30),
        source="Project plan for national standards, second-hand",
    ),
    Regulation(
        id="cn_national_green_2025",
        name="National green data centre 2025",
        name_zh="国家绿色数据中心（2025 年）",
        says="Programme to apply for: PUE at most 1.30, GB 40879 grade 2 or better, GB/T 44989 grade 2 or better, "
        "at least 60 % of the racks in use. The minimum size is waived for finance.",
        says_zh="自愿申报：PUE 不高于 1.30，GB 40879 能效等级 2 级及以上，GB/T 44989 等级 2 级及以上，"
        "机架上架率不低于 60%。金融领域不受规模下限限制。",
        jurisdictions=("CN",),
        valid_from=date(2025, 1, 1),
        conditions=(
            Condition(indicator="annual_pue", at_most=1.3),
            Condition(indicator="gb40879_grade", at_most=2),
            Condition(indicator="gbt44989_grade", at_most=2),
            Condition(indicator="racks_used_ratio", at_least=0.6),
        ),
        profile="cn_national_green_2025",
        source="National green data centre evaluation 2025",
        verified=True,
    ),
    Regulation(
        id="cn_green_points",
        name="Older national scoring of green data centres",
        name_zh="早期国家绿色数据中心评分",
        says="Points: 80 − 20 × PUE, at most 60; IT load rate at least 70 %, 50 to 70 %, 30 to 50 %: 3, 2, 1.",
        says_zh="得分：80 − 20 × PUE，最高 60 分；IT 负载率不低于 70%、50%~70%、30%~50% 分别得 3、2、1 分。",
        jurisdictions=("CN",),
        valid_to=date(2025, 1, 1),
        source="National green data centre evaluation, before 2025",
        verified=True,
    ),
    Regulation(
        id="gbt44989_2024",
        name="GB/T 44989-2024, evaluation of green data centres",
        name_zh="GB/T 44989-2024《绿色数据中心评价》",
        says="Grades of green data centres; the national programme of 2025 asks for grade 2 or better.",
        says_zh="绿色数据中心等级评价；2025 年国家绿色数据中心申报要求 2 级及以上。",
        jurisdictions=("CN",),
        valid_from=date(2025, 6, 1),
        source="GB/T 44989-2024, second-hand",
    ),
    Regulation(
        id="cn_action_plan_2024",
        name="Action plan for green and low-carbon data centres, 2024",
        name_zh="《数据中心绿色低碳发展专项行动计划》（2024 年）",
        says="By the end of 2025 the mean PUE of the country under 1.5 and at least 60 % of the racks in use; new "
        "large sites at most 1.25, at hub nodes 1.20.",
        says_zh="到 2025 年底，全国平均 PUE 低于 1.5，机架上架率不低于 60%；新建大型数据中心不高于 1.25，枢纽节点不高于 1.20。",
        jurisdictions=("CN",),
        announced_on=date(2024, 7, 3),
        source="Special action plan for green and low-carbon data centres, 2024",
        verified=True,
    ),
    Regulation(
        id="cn_bj_2021",
        name="Beijing, price of electricity by PUE (2021)",
        name_zh="北京市数据中心差别电价（2021 年）",
        says="Surcharge on electricity above PUE 1.4; its prices are not on file.",
        says_zh="PUE 高于 1.4 的部分执行差别电价；加价标准未收录。",
        jurisdictions=("CN-BJ",),
        announced_on=date(2021, 7, 27),
        valid_from=date(2021, 7, 27),
        valid_to=date(2026, 1, 1),
        surcharge="cn_bj_2021",
        source="Beijing, provisions on the energy review of data centres, 2021",
    ),
    Regulation(
        id="cn_bj_2026",
        name="Beijing, price of electricity by PUE (from 2026)",
        name_zh="北京市数据中心差别电价（2026 年起）",
        says="Surcharge on the electricity above PUE 1.35: 0.2 CNY/kWh up to 100 % over the limit, 0.5 CNY/kWh "
        "beyond. The number of the document was not compared with its source.",
        says_zh="PUE 高于 1.35 的部分加价：超限定值一倍（含）以内每千瓦时 0.2 元，一倍以上 0.5 元。文号未经核对。",
        jurisdictions=("CN-BJ",),
        announced_on=date(2024, 11, 15),
        valid_from=date(2026, 1, 1),
        surcharge="cn_bj_2026",
        source="Beijing, work plan for existing data centres 2024-2027",
        verified=True,
    ),
    Regulation(
        id="cn_sh",
        name="Shanghai, requirements for data centres",
        name_zh="上海市数据中心要求",
        says="New sites: PUE at most 1.25. Small and old sites above 1.7 are to be closed.",
        says_zh="新建数据中心 PUE 不高于 1.25；PUE 高于 1.7 的小散老旧数据中心逐步关停。",
        jurisdictions=("CN-SH",),
        source="Second-hand",
    ),
    Regulation(
        id="cn_emission_factor",
        name="Emission factor of electricity, China",
        name_zh="全国电力平均二氧化碳排放因子",
        says="Data year 2023: 0.5306 kgCO₂/kWh. Factors appear years after their data year.",
        says_zh="数据年份 2023：0.5306 kgCO₂/kWh。排放因子在数据年份之后数年公布。",
        jurisdictions=("CN",),
        announced_on=date(2025, 12, 31),
        source="Ministry of Ecology and Environment and National Bureau of Statistics, day of announcement second-hand",
    ),
    Regulation(
        id="cn_carbon_footprint",
        name="Carbon footprint of electricity, China",
        name_zh="全国电力碳足迹因子",
        says="Another series than the emission factor, and in no figure here: 0.6205 (2023), 0.5777 (2024) "
        "kgCO₂e/kWh.",
        says_zh="与排放因子不是同一序列，本系统的数值均不使用：0.6205（2023）、0.5777（2024）kgCO₂e/kWh。",
        jurisdictions=("CN",),
        source="Ministry of Ecology and Environment, carbon footprint factors of electricity",
        verified=True,
    ),
)

_EUROPE: tuple[Regulation, ...] = (
    Regulation(
        id="eu_2024_1364",
        name="Delegated Regulation (EU) 2024/1364",
        name_zh="欧盟授权条例 (EU) 2024/1364",
        says="Yearly report from 500 kW of installed IT power on; no limit.",
        says_zh="信息设备装机功率 500 kW 及以上需按年报送；不设限值。",
        jurisdictions=("EU",),
        from_it_kw=500.0,
        yearly_on="05-15",
        yearly_says="Report of the year before",
        yearly_says_zh="报送上一年度数据",
        profile="eu_2024_1364",
        source="Commission Delegated Regulation (EU) 2024/1364",
        verified=True,
    ),
    Regulation(
        id="eu_2024_1364_amendment",
        name="Amendment of (EU) 2024/1364",
        name_zh="(EU) 2024/1364 修订",
        says="The draft drops the traffic indicators and tightens guarantees of origin.",
        says_zh="草案取消流量指标，并收紧绿证（来源担保）要求。",
        is_draft=True,
        jurisdictions=("EU",),
        from_it_kw=500.0,
        source="Draft of the European Commission",
        verified=True,
    ),
    Regulation(
        id="eu_label",
        name="EU energy label for data centres",
        name_zh="欧盟数据中心能效标签",
        says="Draft act: classes A to G from PUE, WUE and more, above 500 kW of IT power; not adopted by "
        "2026-06-22. No limits of classes are known.",
        says_zh="法案草案：IT 功率 500 kW 以上，按 PUE、WUE 等划分 A 至 G 级；截至 2026-06-22 尚未通过，等级限值未知。",
        is_draft=True,
        jurisdictions=("EU",),
        from_it_kw=500.0,
        announced_on=date(2026, 3, 26),
        milestones=(Milestone(on="2030", says="Minimum standards planned", says_zh="计划实施最低能效要求"),),
        source="Draft act of the European Commission of 2026-03-26, in part second-hand",
    ),
    Regulation(
        id="de_enefg",
        name="Energieeffizienzgesetz (EnEfG)",
        name_zh="德国《能源效率法》(EnEfG)",
        says="In operation before 2026-07-01: PUE at most 1.5 from 2027-07-01, 1.3 from 2030-07-01. Later starts: 1.2 "
        "within two years.",
        says_zh="2026-07-01 前投运：2027-07-01 起 PUE 不高于 1.5，2030-07-01 起不高于 1.3；之后投运：两年内不高于 1.2。",
        jurisdictions=("DE",),
        profile="de_enefg",
        source="Energieeffizienzgesetz (EnEfG), Germany",
        verified=True,
    ),
    Regulation(
        id="de_enefg_amendment",
        name="Amendment of the EnEfG",
        name_zh="德国 EnEfG 修订",
        says="Draft: existing sites 1.6 from 2027-07-01 and 1.4 from 2030-07-01, new sites 1.3 within four years. Until "
        "it is adopted the law in force applies.",
        says_zh="草案：既有数据中心 2027-07-01 起 1.6、2030-07-01 起 1.4，新建数据中心四年内 1.3；通过前适用现行法律。",
        is_draft=True,
        jurisdictions=("DE",),
        announced_on=date(2026, 6, 24),
        source="Draft of the cabinet of 2026-06-24, in part second-hand",
    ),
)

_ELSEWHERE: tuple[Regulation, ...] = (
    Regulation(
        id="sg_green_mark",
        name="Green Mark for data centres, Singapore",
        name_zh="新加坡数据中心绿色标志 (Green Mark)",
        says="Certificate, at 25 % load: Gold Plus PUE 1.46, WUE at most 2.2; Platinum PUE 1.39, WUE at most 2.0.",
        says_zh="认证，按 25% 负荷：超金级 PUE 1.46、WUE 不高于 2.2；白金级 PUE 1.39、WUE 不高于 2.0。",
        jurisdictions=("SG",),
        valid_from=date(2025, 3, 1),
        source="Green Mark for data centres, 2025",
        verified=True,
    ),
    Regulation(
        id="sg_call_2025",
        name="Call for data centres, Singapore 2025",
        name_zh="新加坡 2025 年数据中心征集",
        says="PUE at most 1.25 at full load for the sites that are awarded.",
        says_zh="获批站点满负荷 PUE 不高于 1.25。",
        jurisdictions=("SG",),
        announced_on=date(2025, 12, 1),
        source="Second-hand",
    ),
    Regulation(
        id="jp_benchmark",
        name="Benchmark for data centres, Japan",
        name_zh="日本数据中心基准",
        says="Benchmark: PUE 1.4 in 2030; built from 2029 on: 1.3.",
        says_zh="基准：2030 年 PUE 1.4；2029 年起新建 1.3。",
        jurisdictions=("JP",),
        milestones=(
            Milestone(
                on="2029", says="PUE 1.3 for sites built from then on", says_zh="此后新建数据中心 PUE 1.3"
            ),
            Milestone(on="2030", says="PUE 1.4", says_zh="PUE 1.4"),
        ),
        source="Benchmark system of the Act on rationalising energy use, Japan",
        verified=True,
    ),
    Regulation(
        id="ashrae_90_4",
        name="ASHRAE 90.4",
        says="Mechanical load component = annual mechanical energy / IT energy; electrical loss component = annual "
        "electrical losses to the rack / IT energy. Its limits by climate zone are not on file.",
        says_zh="机械负荷分量 = 全年制冷等机械耗电量 / IT 设备耗电量；电气损耗分量 = 至机架的全年电气损耗 / IT 设备耗电量。"
        "各气候区限值未收录。",
        jurisdictions=("US",),
        source="ASHRAE 90.4",
        verified=True,
    ),
    Regulation(
        id="iso_30134_2_2026",
        name="ISO/IEC 30134-2:2026",
        says="Second edition of the PUE standard; replaces 2016 and its amendment, and knows the PUE of mixed use.",
        says_zh="PUE 标准第二版；取代 2016 版及其修改单，并包含混合用途 PUE。",
        announced_on=date(2026, 1, 16),
        valid_from=date(2026, 1, 16),
        source="ISO/IEC 30134-2:2026, second-hand",
    ),
)

REGULATIONS: tuple[Regulation, ...] = (*_CHINA, *_EUROPE, *_ELSEWHERE)
"""Every regulation that is shipped."""
